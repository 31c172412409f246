// Linear for a few tokens over any weights: y[t] = W x[t], each weight decoded by kernels/common and used for up to eight
// tokens. The plain form: no layout of its own, and what the faster kernels are compared with on a card.
//   parameters  linear_parts.cuh
//   grid        (sum over parts of ceil(n_out / 64), ceil(n_tokens / 8))   block 256
// Lane 4 r + p of a warp owns chain p of row r: blocks 8s + 2p and 8s + 2p + 1, in order, so no sum crosses lanes
// before the last tree. Bound by the integer instructions of the decoding (about ten a weight), not by memory.
#pragma once

#include "cuda/packed_block.cuh"

namespace espalier {

constexpr int kPlainThreads = 256;
constexpr int kPlainRows = kPlainThreads / 4;
constexpr int kPlainTokens = 8;

// One chain for up to eight tokens.
struct TokenChains {
    float acc[kPlainTokens], mean_acc[kPlainTokens];
};

template <class T>
ESP_FN void add_block(const PackedBlock<T>& w, const BlockFactors& f, const Activations& x, int token, int b,
                      float& acc, float& mean_acc) {
    const uint4* q = reinterpret_cast<const uint4*>(x.block_q(token, b));
    const uint4 first = q[0], second = q[1];
    const uint32_t a[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
    const float dx = x.block_dx(token, b);
    acc = fma_f32(float(w.dot(a, f)), dx * f.scale, acc);
    if constexpr (T::kHasMin) {
        const int sums = x.block_sums(token, b), minimum = f.min_lo * sum_of_low(sums) + f.min_hi * sum_of_high(sums);
        acc = fma_f32(float(minimum), dx * f.minus_dmin, acc);
    }
    if constexpr (T::kHasMean) mean_acc = fma_f32(float(sum_of_all(x.block_sums(token, b))), dx, mean_acc);
}

// Sum of the four lanes of a row, in the formula's order; every lane has it.
ESP_FN float chain_tree(float acc) {
    acc = acc + shfl_xor(acc, 1);
    return acc + shfl_xor(acc, 2);
}

template <class Weights>
ESP_FN void linear_plain_rows(const Part& part, const Activations& x, int first_token) {
    using T = typename Weights::Type;
    const Weights weights(part.weights, part.n_out, x.n_in);
    const int p = threadIdx.x & 3, wanted = part.first_row + int(threadIdx.x >> 2);
    const int row = wanted < part.n_out ? wanted : part.n_out - 1;  // lanes beyond the end repeat the last row
    const int n_tokens = min(kPlainTokens, x.n_tokens - first_token);
    TokenChains chains{};
    for (int b = 2 * p; b < x.n_blocks(); b += b & 1 ? 7 : 1) {
        Block32 block;
        weights.decode(row, b, block);
        PackedBlock<T> packed;
        packed.pack(block);
        const BlockFactors factors = block_factors<T>(block);
#pragma unroll
        for (int n = 0; n < kPlainTokens; ++n)
            if (n < n_tokens) add_block(packed, factors, x, first_token + n, b, chains.acc[n], chains.mean_acc[n]);
    }
#pragma unroll
    for (int n = 0; n < kPlainTokens; ++n) {
        const float tree = chain_tree(chains.acc[n]);
        const float mean_tree = T::kHasMean ? chain_tree(chains.mean_acc[n]) : 0.0f;
        if (p == 0 && wanted < part.n_out && n < n_tokens)
            part.store(first_token + n, row, finish_row<T>(weights.row_d(row), weights.row_mean(row), tree, mean_tree));
    }
}

}  // namespace espalier
