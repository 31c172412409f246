// DMMV of IQ1_KT .. IQ4_KT: y = W x for one to eight tokens, straight from the trellis, in three forms:
//   kt_dmmv_1      one token on the tensor cores    kt_dmmv_8   two to eight tokens on the tensor cores
//   kt_dmmv_dp4a   one token, dp4a                  (linear_plain.cuh: the plain form)
// A masked generator word is four bytes whose sum is a weight plus 126. So it is multiplied as it is, with its activation
// in all four bytes, and the 126 comes off by a start value of the sum, -126 times the activations' sum. IQ3_KT needs the
// magnitude of the sum first: there four sums are packed into a word, and a stored sign is an exclusive or: as a signed
// byte, ~m is -m - 1, so the activations under a minus are added once more by a second product.
// Sums start at the bits of 1.5 * 2^23 as a float: read as a float, less that number, they need no conversion.
// Parameters: linear_parts.cuh. Bound by integer instructions (two to multiply and mask a weight), not by memory.
#pragma once

#include "cuda/kt_tiles.cuh"
#include "cuda/linear_plain.cuh"

namespace espalier {

constexpr int kDmmvTiles = 2;  // tiles of 16 rows that a warp works on at once; they share the activations
constexpr int kDmmvRows = kDmmvTiles * kTileRows;
constexpr int kDmmvWarps = 8;
constexpr int kDmmvTokens = 8;

constexpr int kMagicBits = 0x4B400000;     // 1.5 * 2^23: integers below 2^22 added to the bits add to the value
constexpr float kMagic = 12582912.0f;

ESP_FN float from_magic(int sum) { return float_from_bits(uint32_t(sum)) - kMagic; }

// Where a dot over one block starts, from the sums of its activations: IQ3_KT's values need no centre.
template <class T>
ESP_FN int magic_start(int sums) {
    return KtPlane<T>::kSigned ? kMagicBits : kMagicBits - kTrellisCentre * sum_of_all(sums);
}

// The activation of column 8 t + k in all four bytes. words: the lane's eight columns.
ESP_FN uint32_t replicated(const uint32_t (&words)[2], int k) { return byte_perm(words[k >> 2], 0, 0x1111u * (k & 3)); }

// Magnitudes of columns 8 t + 4 half .. + 3 as bytes, complemented where the sign is minus.
template <class T>
ESP_FN uint32_t signed_magnitudes(const KtPlane<T>& plane, int h, int i, int half, uint32_t signs) {
    uint32_t sums = dp4a_u8u8(kt_word<T>(plane, h, i, 4 * half + 3), 0x01010101u, 0);
#pragma unroll
    for (int k = 2; k >= 0; --k) sums = dp4a_u8u8(kt_word<T>(plane, h, i, 4 * half + k), 0x01010101u, sums << 8);
    return abs_diff_u8x4(sums, uint32_t(kTrellisCentre) * 0x01010101u) ^ signs * 255u;
}

// Scales as floats; types with a table keep entry `lane` of it in a register.
template <class T>
struct LaneScales {
    float entry;

    ESP_FN LaneScales() : entry(KtScaleRule<T>::kTable ? float(KtScaleRule<T>::value(threadIdx.x & 15)) : 0.0f) {}
    ESP_FN float value(const KtScales<T>& scales, int h, int i) const {
        const uint32_t code = scales.code(h, i);
        if constexpr (KtScaleRule<T>::kTable) return shfl(entry, int(code));
        return float(KtScaleRule<T>::value(code));
    }
};

// The first tile of a block of threads, and where it stops: tiles beyond the matrix repeat its last one.
template <class T>
struct TileRows {
    const uint8_t* first[kDmmvTiles];

    ESP_FN TileRows(const KtTiles<T>& matrix, const Part& part) {
        const int last = (part.n_out - 1) / kTileRows;
#pragma unroll
        for (int m = 0; m < kDmmvTiles; ++m) first[m] = matrix.tile(min(part.first_row / kTileRows + m, last), 0);
    }
    ESP_FN const uint8_t* tile(int m, int s) const { return first[m] + int64_t(s) * kt_tile_bytes<T>(); }
};

// ---- one token, tensor cores.
//   grid  sum over parts of ceil(n_out / 32)   block 256
// Warp w takes the tiles s = w, w + 8, ... of 32 rows. In one mma, lane 4 g + t brings weight k of its group in the blocks
// 2p and 2p + 1 of rows g and g + 8 (A), and column n of B is block n: it holds block n's activations where A has block n
// and zeros elsewhere. So after 32 steps column n of C is the dot of block n, and lane 4 g + t has those of chain t. The
// dots of eight tiles meet in shared memory, where 128 threads, one a row and chain, add them in the formula's order.

template <class T>
ESP_FN void multiply_planes_1(const KtPlane<T> (&plane)[kDmmvTiles], const uint32_t (&words)[2], bool first, bool second,
                              int (&dots)[kDmmvTiles][4]) {
    if constexpr (KtPlane<T>::kSigned) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const unsigned b[2] = {first ? words[half] : 0u, second ? words[half] : 0u};
#pragma unroll
            for (int m = 0; m < kDmmvTiles; ++m) {
                unsigned values[4], signs[4];
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    signs[r] = plane[m].signs(r & 1, r >> 1, half);
                    values[r] = signed_magnitudes<T>(plane[m], r & 1, r >> 1, half, signs[r]);
                }
                mma_s8s8(dots[m], values, b);
                mma_s8s8(dots[m], signs, b);
            }
        }
    } else {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const uint32_t activation = replicated(words, k);
            const unsigned b[2] = {first ? activation : 0u, second ? activation : 0u};
#pragma unroll
            for (int m = 0; m < kDmmvTiles; ++m) {
                const unsigned a[4] = {kt_word<T>(plane[m], 0, 0, k), kt_word<T>(plane[m], 1, 0, k),
                                       kt_word<T>(plane[m], 0, 1, k), kt_word<T>(plane[m], 1, 1, k)};
                mma_u8s8(dots[m], a, b);
            }
        }
    }
}

// Terms of chain t and rows g and g + 8 of each tile: float of dot and its factor, for blocks 2t and 2t + 1.
template <class T>
ESP_FN void tile_terms(const TileRows<T>& rows, int s, const Activations& x, const LaneScales<T>& lane_scales, float4* terms) {
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const uint2 own = reinterpret_cast<const uint2*>(x.q + kTileColumns * s)[lane];  // columns 8 t .. + 7 of block g
    const uint32_t words[2] = {own.x, own.y};
    const int2 sums = reinterpret_cast<const int2*>(x.sums)[4 * s + t];
    int dots[kDmmvTiles][4];
#pragma unroll
    for (int m = 0; m < kDmmvTiles; ++m) {
        dots[m][0] = dots[m][2] = magic_start<T>(sums.x);
        dots[m][1] = dots[m][3] = magic_start<T>(sums.y);
    }
    KtPlane<T> plane[kPlanes][kDmmvTiles];  // all of the step's loads first
#pragma unroll
    for (int p = 0; p < kPlanes; ++p)
#pragma unroll
        for (int m = 0; m < kDmmvTiles; ++m) plane[p][m].load(rows.tile(m, s), p, lane);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) multiply_planes_1<T>(plane[p], words, g == 2 * p, g == 2 * p + 1, dots);
    const float2 dx = reinterpret_cast<const float2*>(x.dx)[4 * s + t];
#pragma unroll
    for (int m = 0; m < kDmmvTiles; ++m) {
        KtScales<T> scales;
        scales.load(rows.tile(m, s), t, g);
#pragma unroll
        for (int h = 0; h < 2; ++h)
            terms[4 * (kTileRows * m + 8 * h + g) + t] =
                make_float4(from_magic(dots[m][2 * h]), dx.x * lane_scales.value(scales, h, 0),
                            from_magic(dots[m][2 * h + 1]), dx.y * lane_scales.value(scales, h, 1));
    }
}

template <class T>
ESP_FN void kt_dmmv_1_rows(const Part& part, const Activations& x) {
    __shared__ float4 terms[2][kDmmvWarps][4 * kDmmvRows];
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const TileRows<T> rows(matrix, part);
    const LaneScales<T> lane_scales;
    const int warp = threadIdx.x >> 5, n_tiles = matrix.n_tiles_in;
    const bool adds = threadIdx.x < 4 * kDmmvRows;
    float acc = 0.0f;  // of row threadIdx.x / 4, chain threadIdx.x % 4
    for (int first = 0, half = 0; first < n_tiles; first += kDmmvWarps, half ^= 1) {
        if (first + warp < n_tiles) tile_terms<T>(rows, first + warp, x, lane_scales, terms[half][warp]);
        block_sync();  // one a round: the next round writes the other half
        if (adds) {
            for (int w = 0; w < min(kDmmvWarps, n_tiles - first); ++w) {
                const float4 term = terms[half][w][threadIdx.x];
                acc = fma_f32(term.x, term.y, acc);
                acc = fma_f32(term.z, term.w, acc);
            }
        }
    }
    const float tree = chain_tree(acc);
    const int row = part.first_row + int(threadIdx.x >> 2);
    if (adds && (threadIdx.x & 3) == 0 && row < part.n_out)
        part.y[row] = finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f);
}

// ---- two to eight tokens, tensor cores.
//   grid  (sum over parts of ceil(n_out / 32), ceil(n_tokens / 8))   block 128
// Warp p is chain p. In one mma, lane 4 g + t brings weights k and k + 4 of its group in one block of rows g and g + 8 (A) and
// their activations of token g (B), so four mmas make the dots of a block for eight tokens, and the decoding is shared.

template <class T>
ESP_FN void multiply_block_8(const KtPlane<T>& plane, int i, const uint32_t (&words)[2], int (&dots)[4]) {
    if constexpr (KtPlane<T>::kSigned) {
        unsigned values[4], signs[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            signs[r] = plane.signs(r & 1, i, r >> 1);
            values[r] = signed_magnitudes<T>(plane, r & 1, i, r >> 1, signs[r]);
        }
        mma_s8s8(dots, values, words);
        mma_s8s8(dots, signs, words);
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const unsigned a[4] = {kt_word<T>(plane, 0, i, k), kt_word<T>(plane, 1, i, k),
                                   kt_word<T>(plane, 0, i, k + 4), kt_word<T>(plane, 1, i, k + 4)};
            const unsigned b[2] = {replicated(words, k), replicated(words, k + 4)};
            mma_u8s8(dots, a, b);
        }
    }
}

template <class T>
ESP_FN void kt_dmmv_8_rows(const Part& part, const Activations& x, int first_token) {
    __shared__ float chains[kPlanes][kDmmvRows * kDmmvTokens];  // [chain][row][token]
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const TileRows<T> rows(matrix, part);
    const LaneScales<T> lane_scales;
    const int lane = threadIdx.x & 31, p = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int last_token = x.n_tokens - 1 - first_token;  // tokens beyond it repeat it
    const int own_token = first_token + min(g, last_token);
    const int out_token[2] = {first_token + min(2 * t, last_token), first_token + min(2 * t + 1, last_token)};
    float acc[kDmmvTiles][4] = {};  // rows g, g + 8 x tokens 2t, 2t + 1
    for (int s = 0; s < matrix.n_tiles_in; ++s) {
        KtPlane<T> plane[kDmmvTiles];
        KtScales<T> scales[kDmmvTiles];
#pragma unroll
        for (int m = 0; m < kDmmvTiles; ++m) plane[m].load(rows.tile(m, s), p, lane), scales[m].load(rows.tile(m, s), p, g);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int b = 8 * s + 2 * p + i;
            const uint2 own = reinterpret_cast<const uint2*>(x.block_q(own_token, b))[t];
            const uint32_t words[2] = {own.x, own.y};
            const int start[2] = {magic_start<T>(x.block_sums(out_token[0], b)), magic_start<T>(x.block_sums(out_token[1], b))};
            const float dx[2] = {x.block_dx(out_token[0], b), x.block_dx(out_token[1], b)};
#pragma unroll
            for (int m = 0; m < kDmmvTiles; ++m) {
                int dots[4] = {start[0], start[1], start[0], start[1]};
                multiply_block_8<T>(plane[m], i, words, dots);
                const float scale[2] = {lane_scales.value(scales[m], 0, i), lane_scales.value(scales[m], 1, i)};
#pragma unroll
                for (int o = 0; o < 4; ++o)
                    acc[m][o] = fma_f32(from_magic(dots[o]), dx[o & 1] * scale[o >> 1], acc[m][o]);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < kDmmvTiles; ++m)
#pragma unroll
        for (int o = 0; o < 4; ++o)
            chains[p][(kTileRows * m + 8 * (o >> 1) + g) * kDmmvTokens + 2 * t + (o & 1)] = acc[m][o];
    block_sync();
    for (int i = threadIdx.x; i < kDmmvRows * kDmmvTokens; i += kPlanes * kWarp) {
        const int row = part.first_row + i % kDmmvRows, token = i / kDmmvRows, at = i % kDmmvRows * kDmmvTokens + token;
        if (row >= part.n_out || token > last_token) continue;
        const float tree = (chains[0][at] + chains[1][at]) + (chains[2][at] + chains[3][at]);
        part.y[int64_t(first_token + token) * part.n_out + row] = finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f);
    }
}

// ---- one token, dp4a.
//   grid  sum over parts of ceil(n_out / 32)   block 64: a warp for each tile of 16 rows
// Lane 4 g + p owns chain p of rows g and g + 8; the four groups of its blocks lie side by side.

template <class T>
ESP_FN int block_dot_dp4a(const KtPlane<T> (&plane)[4], int h, int i, const uint32_t (&words)[8], int start) {
    int dot = start;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
        const uint32_t own[2] = {words[2 * t], words[2 * t + 1]};
        if constexpr (KtPlane<T>::kSigned) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint32_t signs = plane[t].signs(h, i, half);
                dot = dp4a_s8s8(signed_magnitudes<T>(plane[t], h, i, half, signs), own[half], dot);
                dot = dp4a_s8s8(signs, own[half], dot);
            }
        } else {
#pragma unroll
            for (int k = 0; k < 8; ++k) dot = dp4a_u8s8(kt_word<T>(plane[t], h, i, k), replicated(own, k), dot);
        }
    }
    return dot;
}

template <class T>
ESP_FN void kt_dmmv_dp4a_rows(const Part& part, const Activations& x) {
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const int lane = threadIdx.x & 31, g = lane >> 2, p = lane & 3;
    const int tile_row = min(part.first_row / kTileRows + int(threadIdx.x >> 5), (part.n_out - 1) / kTileRows);
    const bool there = part.first_row / kTileRows + int(threadIdx.x >> 5) == tile_row;
    float acc[2] = {0.0f, 0.0f};
    for (int s = 0; s < matrix.n_tiles_in; ++s) {
        const uint8_t* tile = matrix.tile(tile_row, s);
        KtScales<T> scales;
        scales.load(tile, p, g);
        KtPlane<T> plane[4];
#pragma unroll
        for (int t = 0; t < 4; ++t) plane[t].load(tile, p, 4 * g + t);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int b = 8 * s + 2 * p + i;
            const uint4* q = reinterpret_cast<const uint4*>(x.block_q(0, b));
            const uint4 lo = q[0], hi = q[1];
            const uint32_t words[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
            const int start = magic_start<T>(x.block_sums(0, b));
            const float dx = x.block_dx(0, b);
#pragma unroll
            for (int h = 0; h < 2; ++h)
                acc[h] = fma_f32(from_magic(block_dot_dp4a<T>(plane, h, i, words, start)),
                                 dx * float(KtScaleRule<T>::value(scales.code(h, i))), acc[h]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const float tree = chain_tree(acc[h]);
        const int row = tile_row * kTileRows + 8 * h + g;
        if (p == 0 && there && row < part.n_out) part.y[row] = finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f);
    }
}

}  // namespace espalier
