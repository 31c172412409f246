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

template <class T, int kTiles>
ESP_FN void kt_dmmv_8_rows(const Part& part, const Activations& x, int first_token) {
    constexpr int kRows = kTiles * kTileRows;
    __shared__ float chains[kPlanes][kRows * kDmmvTokens];  // [chain][row][token]
    const KtTiles<T> matrix(part.weights, part.n_out, x.n_in);
    const TileRows<T, kTiles> rows(matrix, part);
    const LaneScales<T> lane_scales;
    const int lane = threadIdx.x & 31, p = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int last_token = x.n_tokens - 1 - first_token;  // tokens beyond it repeat it
    const int own_token = first_token + min(g, last_token);
    const int out_token[2] = {first_token + min(2 * t, last_token), first_token + min(2 * t + 1, last_token)};
    float acc[kTiles][4] = {};  // rows g, g + 8 x tokens 2t, 2t + 1
    for (int s = 0; s < matrix.n_tiles_in; ++s) {
        KtPlane<T> plane[kTiles];
        KtScales<T> scales[kTiles];
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
            plane[m].load(typename KtPlane<T>::Lane(rows.tile(m, s), lane), p);
            scales[m].load(KtScales<T>::at(rows.tile(m, s), p, g));
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int b = 8 * s + 2 * p + i;
            const uint2 own = reinterpret_cast<const uint2*>(x.block_q(own_token, b))[t];
            const uint32_t words[2] = {own.x, own.y};
            const int start[2] = {magic_start<T>(x.block_sums(out_token[0], b)), magic_start<T>(x.block_sums(out_token[1], b))};
            const float dx[2] = {x.block_dx(out_token[0], b), x.block_dx(out_token[1], b)};
#pragma unroll
            for (int m = 0; m < kTiles; ++m) {
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
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int o = 0; o < 4; ++o)
            chains[p][(kTileRows * m + 8 * (o >> 1) + g) * kDmmvTokens + 2 * t + (o & 1)] = acc[m][o];
    block_sync();
    for (int i = threadIdx.x; i < kRows * kDmmvTokens; i += kPlanes * kWarp) {
        const int row = part.first_row + i % kRows, token = i / kRows, at = i % kRows * kDmmvTokens + token;
        if (row >= part.n_out || token > last_token) continue;
        const float tree = (chains[0][at] + chains[1][at]) + (chains[2][at] + chains[3][at]);
        part.store(first_token + token, row, finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f));
    }
}

}  // namespace espalier
