// DMMV of IQ1_KT .. IQ4_KT for two to eight tokens on the tensor cores (kt_dmmv.cuh).
//   grid  (sum over parts of ceil(n_out / (16 kTiles)), ceil(n_tokens / 8))   block 128
// kTiles 2, and 1 in kt_dmmv_8_narrow, for matrices that would leave multiprocessors idle.
// Warp p is chain p. In one mma, lane 4 g + t brings weights k and k + 4 of its group in one block of rows g and g + 8 (A) and
// their activations of token g (B), so four mmas make the dots of a block for eight tokens, and the decoding is shared.
#pragma once

#include "cuda/kt_dmmv.cuh"

namespace espalier {

constexpr int kDmmvTokens = 8;

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

// What a lane reads of one tile of columns: of the blocks 2p and 2p + 1, its columns for token g, and the factors of tokens
// 2t and 2t + 1. Tokens beyond the last one repeat it.
template <class T, int kTiles>
struct LaneBlocks {
    typename KtPlane<T>::Lane plane_at[kTiles];
    const uint8_t* scales_at[kTiles];
    const uint2* q;
    const int2* sums_at[2];
    const float2* dx_at[2];
    KtPlane<T> plane[kTiles];
    KtScales<T> scales[kTiles];
    uint2 words[2];
    int2 sums[2];
    float2 dx[2];

    ESP_FN LaneBlocks(const TileRows<T, kTiles>& rows, const Activations& x, int first_token, int p) {
        const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, last = x.n_tokens - 1;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
            plane_at[m] = typename KtPlane<T>::Lane(rows.tile(m, 0), lane);
            scales_at[m] = KtScales<T>::at(rows.tile(m, 0), p, g);
        }
        q = reinterpret_cast<const uint2*>(x.block_q(min(first_token + g, last), 2 * p)) + t;
#pragma unroll
        for (int o = 0; o < 2; ++o) {
            const int64_t block = int64_t(min(first_token + 2 * t + o, last)) * x.n_blocks() + 2 * p;
            sums_at[o] = reinterpret_cast<const int2*>(x.sums + block);
            dx_at[o] = reinterpret_cast<const float2*>(x.dx + block);
        }
    }
    ESP_FN void load(int p) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) plane[m].load(plane_at[m], p), scales[m].load(scales_at[m]);
#pragma unroll
        for (int i = 0; i < 2; ++i) words[i] = q[4 * i], sums[i] = *sums_at[i], dx[i] = *dx_at[i];
    }
    // n: 1, or 0 at the last tile, which is then read once more.
    ESP_FN void advance(int n) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) plane_at[m].advance(n * kt_tile_bytes<T>()), scales_at[m] += n * kt_tile_bytes<T>();
        q += n * kTileColumns / 8;
#pragma unroll
        for (int o = 0; o < 2; ++o) sums_at[o] += 4 * n, dx_at[o] += 4 * n;
    }
};

template <class T, int kTiles>
ESP_FN void kt_dmmv_8_rows(const Part& part, const Activations& x, int first_token) {
    constexpr int kRows = kTiles * kTileRows;
    __shared__ float chains[kPlanes][kRows * kDmmvTokens];  // [chain][row][token]
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const TileRows<T, kTiles> rows(matrix, part);
    const LaneScales<T> lane_scales;
    const int lane = threadIdx.x & 31, p = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    LaneBlocks<T, kTiles> blocks(rows, x, first_token, p);
    float acc[kTiles][4] = {};  // rows g, g + 8 x tokens 2t, 2t + 1
    blocks.load(p);
    for (int left = matrix.n_tiles_in; left > 0; --left) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const uint32_t words[2] = {blocks.words[i].x, blocks.words[i].y};
            const int start[2] = {magic_start<T>(i ? blocks.sums[0].y : blocks.sums[0].x),
                                  magic_start<T>(i ? blocks.sums[1].y : blocks.sums[1].x)};
            const float dx[2] = {i ? blocks.dx[0].y : blocks.dx[0].x, i ? blocks.dx[1].y : blocks.dx[1].x};
#pragma unroll
            for (int m = 0; m < kTiles; ++m) {
                int dots[4] = {start[0], start[1], start[0], start[1]};
                multiply_block_8<T>(blocks.plane[m], i, words, dots);
                const float scale[2] = {lane_scales.value(blocks.scales[m], 0, i), lane_scales.value(blocks.scales[m], 1, i)};
#pragma unroll
                for (int o = 0; o < 4; ++o)
                    acc[m][o] = fma_f32(from_magic(dots[o]), dx[o & 1] * scale[o >> 1], acc[m][o]);
            }
        }
        blocks.advance(left > 1);
        blocks.load(p);
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int o = 0; o < 4; ++o)
            chains[p][(kTileRows * m + 8 * (o >> 1) + g) * kDmmvTokens + 2 * t + (o & 1)] = acc[m][o];
    block_sync();
    for (int i = threadIdx.x; i < kRows * kDmmvTokens; i += kPlanes * kWarp) {
        const int row = part.first_row + i % kRows, token = i / kRows, at = i % kRows * kDmmvTokens + token;
        if (row >= part.n_out || first_token + token >= x.n_tokens) continue;
        const float tree = (chains[0][at] + chains[1][at]) + (chains[2][at] + chains[3][at]);
        part.store(first_token + token, row, finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f));
    }
}

}  // namespace espalier
