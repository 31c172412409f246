// DMMV of IQ1_KT .. IQ4_KT for one token by dp4a (kt_dmmv.cuh).
//   grid  sum over parts of ceil(n_out / 32)   block 64: a warp for each tile of 16 rows
// Lane 4 g + p owns chain p of rows g and g + 8; the four groups of its blocks lie side by side.
#pragma once

#include "cuda/kt_dmmv.cuh"

namespace espalier {

constexpr int kDp4aTiles = 2;  // of 16 rows, a warp each

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
        scales.load(KtScales<T>::at(tile, p, g));
        KtPlane<T> plane[4];
#pragma unroll
        for (int t = 0; t < 4; ++t) plane[t].load(typename KtPlane<T>::Lane(tile, 4 * g + t), p);
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
        if (p == 0 && there && row < part.n_out) part.store(0, row, finish_row<T>(matrix.row_d(row), 0.0f, tree, 0.0f));
    }
}

}  // namespace espalier
