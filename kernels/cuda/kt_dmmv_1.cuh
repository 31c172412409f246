// DMMV of IQ1_KT .. IQ4_KT for one token on the tensor cores (kt_dmmv.cuh).
//   grid  sum over parts of ceil(n_out / (16 kTiles))   block 32 kWarps
// Warp w takes the tiles s = w, w + kWarps, ... of 16 kTiles rows. In one mma, lane 4 g + t brings weight k of its group in
// the blocks 2p and 2p + 1 of rows g and g + 8 (A), and column n of B is block n's activations, in the half of k that A has
// block n's weights in when n is 2p or 2p + 1. So after the eight steps of plane p, columns 2p and 2p + 1 of its sums are the
// dots of these blocks, the other columns mean nothing, and lane 4 g + t takes those of plane t, chain t. (One sum for all
// planes would need zeros in B for the other columns: two selections for each step.) The dots of kWarps tiles meet in shared
// memory, where one thread a row and chain adds them in the formula's order. Every plane is loaded a round before it is
// needed, as soon as its registers are free.
//   kt_dmmv_1 <2, 8>            32 rows: two tiles share the activations
//   kt_dmmv_1_narrow <1, 16>    16 rows: twice the blocks, with twice the warps, for matrices that would leave
//                               multiprocessors idle
#pragma once

#include "cuda/kt_dmmv.cuh"

namespace espalier {

template <class T, int kTiles>
ESP_FN void multiply_plane_1(const KtPlane<T> (&plane)[kTiles], const uint32_t (&even)[2], const uint32_t (&odd)[2],
                             int (&dots)[kTiles][4]) {
    if constexpr (KtPlane<T>::kSigned) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const unsigned b[2] = {even[half], odd[half]};
#pragma unroll
            for (int m = 0; m < kTiles; ++m) {
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
            const unsigned b[2] = {replicated(even, k), replicated(odd, k)};
#pragma unroll
            for (int m = 0; m < kTiles; ++m) {
                const unsigned a[4] = {kt_word<T>(plane[m], 0, 0, k), kt_word<T>(plane[m], 1, 0, k),
                                       kt_word<T>(plane[m], 0, 1, k), kt_word<T>(plane[m], 1, 1, k)};
                mma_u8s8(dots[m], a, b);
            }
        }
    }
}

// What a lane reads of one tile of columns, a round ahead.
template <class T, int kTiles>
struct LaneTiles {
    typename KtPlane<T>::Lane plane_at[kTiles];
    const uint8_t* scales_at[kTiles];
    const uint2* q;
    const int2* sums;
    const float2* dx;
    KtPlane<T> plane[kPlanes][kTiles];
    KtScales<T> scales[kTiles];
    uint2 own;      // columns 8 t .. + 7 of block g
    int2 own_sums;  // of blocks 2 t and 2 t + 1
    float2 own_dx;

    ESP_FN LaneTiles(const TileRows<T, kTiles>& rows, const Activations& x, int s) {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
            plane_at[m] = typename KtPlane<T>::Lane(rows.tile(m, s), lane);
            scales_at[m] = KtScales<T>::at(rows.tile(m, s), lane & 3, lane >> 2);
        }
        q = reinterpret_cast<const uint2*>(x.q + kTileColumns * s) + lane;
        sums = reinterpret_cast<const int2*>(x.sums) + 4 * s + (lane & 3);
        dx = reinterpret_cast<const float2*>(x.dx) + 4 * s + (lane & 3);
    }
    ESP_FN void advance(int n) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
            plane_at[m].advance(n * kt_tile_bytes<T>()), scales_at[m] += n * kt_tile_bytes<T>();
        q += n * kTileColumns / 8, sums += 4 * n, dx += 4 * n;
    }
    ESP_FN void load_plane(int p) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) plane[p][m].load(plane_at[m], p);
    }
    ESP_FN void load_factors() {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) scales[m].load(scales_at[m]);
        own = *q, own_sums = *sums, own_dx = *dx;
    }
};

// Terms of chain t and rows g and g + 8 of each tile: float of dot and its factor, for blocks 2t and 2t + 1. `there`: the tile
// is one, not past the end; `more`: the next round has one.
template <class T, int kTiles, int kWarps>
ESP_FN void tile_terms(LaneTiles<T, kTiles>& tiles, const LaneScales<T>& lane_scales, uint32_t even_mask, bool there, bool more,
                       float4* terms) {
    const int t = threadIdx.x & 3;
    const uint32_t even[2] = {tiles.own.x & even_mask, tiles.own.y & even_mask};
    const uint32_t odd[2] = {tiles.own.x & ~even_mask, tiles.own.y & ~even_mask};
    const int start[2] = {magic_start<T>(tiles.own_sums.x), magic_start<T>(tiles.own_sums.y)};
    const float dx[2] = {there ? tiles.own_dx.x : 0.0f, there ? tiles.own_dx.y : 0.0f};
    int own[kTiles][4];
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) {
        int dots[kTiles][4];
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
            for (int o = 0; o < 4; ++o) dots[m][o] = start[o & 1];
        multiply_plane_1<T, kTiles>(tiles.plane[p], even, odd, dots);
        if (p == 0) tiles.advance(kWarps);
        if (more) tiles.load_plane(p);
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
            for (int o = 0; o < 4; ++o) own[m][o] = p == 0 || t == p ? dots[m][o] : own[m][o];
    }
    float scale[kTiles][4];
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int o = 0; o < 4; ++o) scale[m][o] = dx[o & 1] * lane_scales.value(tiles.scales[m], o >> 1, o & 1);
    if (more) tiles.load_factors();
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h)
            terms[kWarp * (2 * m + h)] =
                make_float4(from_magic(own[m][2 * h]), scale[m][2 * h], from_magic(own[m][2 * h + 1]),
                            scale[m][2 * h + 1]);
}

template <class T, int kTiles, int kWarps>
ESP_FN void kt_dmmv_1_rows(const Part& part, const Activations& x) {
    constexpr int kSums = 4 * kTileRows * kTiles;  // a row and chain each
    __shared__ float4 terms[2][kWarps][kSums];
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const TileRows<T, kTiles> rows(matrix, part);
    const LaneScales<T> lane_scales;
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, n_tiles = matrix.n_tiles_in;
    const uint32_t even_mask = (lane >> 2 & 1) - 1u;
    LaneTiles<T, kTiles> tiles(rows, x, min(warp, n_tiles - 1));
    tiles.load_factors();
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) tiles.load_plane(p);
    float acc = 0.0f;  // of row threadIdx.x / 4, chain threadIdx.x % 4
    float4* own_terms = &terms[0][warp][lane];
    const float4* sums = &terms[0][0][threadIdx.x % kSums];
    int other = kWarps * kSums;
    for (int s = warp, left = n_tiles; left > 0; s += kWarps, left -= kWarps) {
        // Past the end the factors are zero: such terms change no sum, as none is -0.
        tile_terms<T, kTiles, kWarps>(tiles, lane_scales, even_mask, s < n_tiles, s + kWarps < n_tiles, own_terms);
        block_sync();  // one a round: the next round writes the other half
        if (threadIdx.x < kSums) {
#pragma unroll
            for (int w = 0; w < kWarps; ++w) {
                const float4 term = sums[w * kSums];
                acc = fma_f32(term.x, term.y, acc);
                acc = fma_f32(term.z, term.w, acc);
            }
        }
        own_terms += other, sums += other, other = -other;
    }
    const float tree = chain_tree(acc);
    const int row = part.first_row + int(threadIdx.x >> 2);
    if (threadIdx.x < kSums && (threadIdx.x & 3) == 0 && row < part.n_out)
        part.store(0, row, finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f));
}

}  // namespace espalier
