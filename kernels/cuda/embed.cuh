// Embedding look-up: y[t] = row token_ids[t] of the table as float32, bit for bit dequantize.h (no inference gain).
//   token_ids int32 [n_tokens]   y float32 [n_tokens, n_in]
//   grid  (ceil(n_in / 32 / 64), n_tokens)   block 64, one 32-block a thread. Latency bound: a few kilobytes.
#pragma once

#include "common/dequantize.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kEmbedThreads = 64;

template <class Weights>
ESP_FN void embed_block(const uint8_t* table, int n_out, int n_in, const int* token_ids, float* y) {
    using T = typename Weights::Type;
    const Weights weights(table, n_out, n_in);
    const int row = token_ids[blockIdx.y], b = blockIdx.x * kEmbedThreads + threadIdx.x;
    if (b >= n_in / 32) return;
    Block32 block;
    weights.decode(row, b, block);
    dequantize_block32<T>(block, weights.row_d(row), weights.row_mean(row), y + int64_t(blockIdx.y) * n_in + 32 * b);
}

}  // namespace espalier
