// The kernels of one unquantized type (ESP_TYPE: F32, F16 or BF16).
#include "cuda/dense_rows.cuh"

namespace espalier {

// ---- y[t] = W x[t], and residual[t] where that is not null (dense_rows.cuh).
//   grid (ceil(n_out / 32), ceil(n_tokens / 8))   block 128
extern "C" __global__ void __launch_bounds__(kDenseThreads) dense_linear(const uint8_t* weights, const float* x, int n_out,
                                                                        int n_in, int n_tokens, float* y,
                                                                        const float* residual) {
    dense_rows<ESP_TYPE>({weights, x, n_out, n_in, n_tokens, y, residual}, blockIdx.x * kDenseRows, blockIdx.y * kDenseTokens);
}

// ---- The same through a stack of matrices of `bytes` each: x and y by place, tiles of up to eight rows (experts.cu).
//   grid (ceil(n_out / 32), n_tiles)   block 128
extern "C" __global__ void __launch_bounds__(kDenseThreads) dense_stack(const uint8_t* weights, int64_t bytes, const float* x,
                                                                       int n_out, int n_in, float* y, const int* tiles) {
    const int* tile = tiles + 4 * blockIdx.y;
    const int n_rows = tile[2];
    const int64_t first = tile[1];
    if (n_rows == 0) return;
    const DenseRows rows{weights + tile[0] * bytes, x + first * n_in, n_out, n_in, n_rows, y + first * n_out, nullptr};
    dense_rows<ESP_TYPE>(rows, blockIdx.x * kDenseRows, 0);
}

// ---- y[t] = row token_ids[t] as float32.   grid (ceil(n_in / 64), n_tokens)   block 64
extern "C" __global__ void __launch_bounds__(64) embed(const uint8_t* table, int, int n_in, const int* token_ids, float* y) {
    const int k = blockIdx.x * 64 + threadIdx.x;
    if (k < n_in)
        y[int64_t(blockIdx.y) * n_in + k] =
            ESP_TYPE::value(table + (int64_t(token_ids[blockIdx.y]) * n_in + k) * ESP_TYPE::kBytes);
}

}  // namespace espalier
