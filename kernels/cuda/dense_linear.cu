// The kernels of one unquantized type (ESP_TYPE: F32, F16 or BF16): float32 activations and the four chains of
// common/dense.h, for any row length.
#include "common/dense.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kThreads = 128;
constexpr int kRows = kThreads / 4;
constexpr int kTokens = 8;

// ---- y[t] = W x[t], and residual[t] where that is not null.
//   weights [n_out, n_in] of the type   x float32 [n_tokens, n_in]   y and residual float32 [n_tokens, n_out]
//   grid (ceil(n_out / 32), ceil(n_tokens / 8))   block 128
// Lane 4 r + p owns chain p of row r: columns whose 32-block is 2p or 2p + 1 of its eight, ascending. Bound by the
// latency of its loads: these types are for small and unquantized models.
extern "C" __global__ void __launch_bounds__(kThreads) dense_linear(const uint8_t* weights, const float* x, int n_out, int n_in,
                                                                   int n_tokens, float* y, const float* residual) {
    using T = ESP_TYPE;
    const int p = threadIdx.x & 3, wanted = blockIdx.x * kRows + int(threadIdx.x >> 2), first_token = blockIdx.y * kTokens;
    const int row = min(wanted, n_out - 1), n = min(kTokens, n_tokens - first_token);
    const uint8_t* w = weights + int64_t(row) * n_in * T::kBytes;
    const float* rows = x + int64_t(first_token) * n_in;
    float acc[kTokens] = {};
    for (int first = 64 * p; first < n_in; first += 256) {
        for (int k = first; k < min(first + 64, n_in); ++k) {
            const float value = T::value(w + int64_t(k) * T::kBytes);
#pragma unroll
            for (int token = 0; token < kTokens; ++token)
                if (token < n) acc[token] = fma_f32(value, rows[int64_t(token) * n_in + k], acc[token]);
        }
    }
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
        float tree = acc[token] + shfl_xor(acc[token], 1);
        tree = tree + shfl_xor(tree, 2);
        const int64_t at = int64_t(first_token + token) * n_out + row;
        if (p == 0 && wanted < n_out && token < n) y[at] = residual == nullptr ? tree : residual[at] + tree;
    }
}

// ---- y[t] = row token_ids[t] as float32.   grid (ceil(n_in / 64), n_tokens)   block 64
extern "C" __global__ void __launch_bounds__(64) embed(const uint8_t* table, int, int n_in, const int* token_ids, float* y) {
    const int k = blockIdx.x * 64 + threadIdx.x;
    if (k < n_in)
        y[int64_t(blockIdx.y) * n_in + k] =
            ESP_TYPE::value(table + (int64_t(token_ids[blockIdx.y]) * n_in + k) * ESP_TYPE::kBytes);
}

}  // namespace espalier
