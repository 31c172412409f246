// F32, F16 and BF16 matrices on float activations: the chains of the quantized formula, one fma a weight (dense.h).
//   tile [n_in][16 rows] of the file's elements; the four chains of 256 columns run side by side, which hides the
//   latency of their fmas; a few tokens share each weight load. Bound: memory for one token, fma throughput for many.
#pragma once

#include "cpu/linear_matvec.h"

namespace espalier::ESPALIER_TIER {

static inline F32 load_weights(espalier::F32, const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
static inline F32 load_weights(espalier::F16, const uint8_t* p) { return load_f16(reinterpret_cast<const uint16_t*>(p)); }
static inline F32 load_weights(espalier::BF16, const uint8_t* p) { return bits_to_float(shift_left<16>(widen_u16(p))); }

// Columns [k, k + count) of the chain p of N tokens.
template <class T, int N>
static inline void dense_step(const uint8_t* tile, const float* x, int64_t n_in, int64_t k, F32 (&acc)[4][N], int p) {
    const F32 w = load_weights(T{}, tile + k * kTileRows * T::kBytes);
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) acc[p][c] = fma(w, splat(x[c * n_in + k]), acc[p][c]);
}

// 16 rows of N tokens, from `column` on.
template <class T, int N>
static void dense_tile(const TiledMatrix& w, int64_t t, const float* x, int64_t column, const RowOutput& out) {
    const uint8_t* tile = w.tiles + t * w.tile_bytes;
    const int64_t n_in = w.n_in;
    F32 acc[4][N];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p)
#pragma GCC unroll 4
        for (int c = 0; c < N; ++c) acc[p][c] = splat(0.0f);
    int64_t k = 0;
    for (; k + 256 <= n_in; k += 256) {
        for (int j = 0; j < 64; ++j) {
#pragma GCC unroll 4
            for (int p = 0; p < 4; ++p) dense_step<T, N>(tile, x, n_in, k + 64 * p + j, acc, p);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
        const int64_t begin = k + 64 * p, end = begin + 64 < n_in ? begin + 64 : n_in;
        for (int64_t j = begin; j < end; ++j) dense_step<T, N>(tile, x, n_in, j, acc, p);
    }
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) {
        store_rows(out, column + c, t, rows_in_tile(w, t), add(add(acc[0][c], acc[1][c]), add(acc[2][c], acc[3][c])));
    }
}

template <class T>
static void dense_matmul(const TiledMatrix& w, int64_t first, int64_t last, const float* x, int64_t n_tokens,
                         const RowOutput& out) {
    for (int64_t t = first; t < last; ++t) {
        int64_t c = 0;
        for (; c + 4 <= n_tokens; c += 4) dense_tile<T, 4>(w, t, x + c * w.n_in, c, out);
        for (; c < n_tokens; ++c) dense_tile<T, 1>(w, t, x + c * w.n_in, c, out);
    }
}

}  // namespace espalier::ESPALIER_TIER
