// The kernels of one quantized type whose weights lie as file rows; compiled once per type with ESP_TYPE.
#include "cuda/embed.cuh"
#include "cuda/file_rows.cuh"
#include "cuda/linear_matmul.cuh"
#include "cuda/linear_plain.cuh"

namespace espalier {

using Weights = FileRows<ESP_TYPE>;

// The second launch bound keeps the compiler from aiming at more blocks a multiprocessor and spilling for them.

extern "C" __global__ void __launch_bounds__(kPlainThreads, 2) linear_plain(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kPlainRows);
    linear_plain_rows<Weights>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kPlainTokens);
    finish_gated<kPlainRows, kPlainTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kPlainTokens);
}

extern "C" __global__ void __launch_bounds__(kMatmulThreads, 1) linear_matmul(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kMatmulRows);
    linear_matmul_rows<Weights>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kMatmulTokens);
    finish_gated<kMatmulRows, kMatmulTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kMatmulTokens);
}

extern "C" __global__ void __launch_bounds__(kEmbedThreads) embed(const uint8_t* table, int n_out, int n_in,
                                                                  const int* token_ids, float* y) {
    embed_block<Weights>(table, n_out, n_in, token_ids, y);
}

}  // namespace espalier
