// Linear over one unquantized type: float32 activations and the four chains of common/dense.h, for any row length.
#pragma once

#include "common/dense.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kDenseThreads = 128;
constexpr int kDenseRows = kDenseThreads / 4;
constexpr int kDenseTokens = 8;

// y [n_tokens, n_out] = W x, and residual of that shape unless it is null; weights [n_out, n_in], x [n_tokens, n_in].
struct DenseRows {
    const uint8_t* weights;
    const float* x;
    int n_out, n_in, n_tokens;
    float* y;
    const float* residual;
};

// 32 rows and up to eight tokens. Lane 4 r + p owns chain p of row r: columns whose 32-block is 2p or 2p + 1 of its eight,
// ascending. Bound by the latency of its loads: these types are for small and unquantized models.
template <class T>
ESP_FN void dense_rows(const DenseRows& d, int first_row, int first_token) {
    const int p = threadIdx.x & 3, wanted = first_row + int(threadIdx.x >> 2);
    const int row = min(wanted, d.n_out - 1), n = min(kDenseTokens, d.n_tokens - first_token);
    const uint8_t* w = d.weights + int64_t(row) * d.n_in * T::kBytes;
    const float* rows = d.x + int64_t(first_token) * d.n_in;
    float acc[kDenseTokens] = {};
    for (int first = 64 * p; first < d.n_in; first += 256) {
        for (int k = first; k < min(first + 64, d.n_in); ++k) {
            const float value = T::value(w + int64_t(k) * T::kBytes);
#pragma unroll
            for (int token = 0; token < kDenseTokens; ++token)
                if (token < n) acc[token] = fma_f32(value, rows[int64_t(token) * d.n_in + k], acc[token]);
        }
    }
#pragma unroll
    for (int token = 0; token < kDenseTokens; ++token) {
        float tree = acc[token] + shfl_xor(acc[token], 1);
        tree = tree + shfl_xor(tree, 2);
        const int64_t at = int64_t(first_token + token) * d.n_out + row;
        if (p == 0 && wanted < d.n_out && token < n) d.y[at] = d.residual == nullptr ? tree : d.residual[at] + tree;
    }
}

}  // namespace espalier
