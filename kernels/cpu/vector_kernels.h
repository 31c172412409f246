// What one ISA tier offers beside the linears: norms, activations, rotary positions, attention over paged KV.
// Every function works on a range of rows or items that the caller hands to its threads, and computes each row by
// itself in one fixed order, so neither the range nor the company of a row changes its bits.
#pragma once

#include <cstdint>

#include "cpu/delta_kernels.h"
#include "cpu/kv_cache.h"

namespace espalier {

// Positions are summed in splits of this many keys, merged in order (kernels/ops.py, KV_SPLIT).
constexpr int64_t kKvSplit = 256;
// Queries (tokens x heads of one KV head) that share one walk over the keys; one token's heads always do.
constexpr int64_t kQueryRows = 32;

// Queries of one sequence and KV head: tokens first_token .. first_token + n_tokens - 1 of the
// pass, the first at position first_position.
struct AttentionItem {
    const int32_t* block_ids;
    int64_t first_token, n_tokens, first_position, head_kv;
};

struct AttentionShape {
    int64_t n_head, group;  // group = n_head / n_head_kv
    float scale;
    int64_t window;  // a query sees so many positions at most, its own among them
};

// Queries of one sequence and the heads first_head .. first_head + n_heads - 1 of each token, over latents.
struct LatentItem {
    AttentionItem queries;  // head_kv = 0
    int64_t first_head, n_heads;
    // The cached positions that the item's one token sees, in the place of all before it; null: all. The first of the
    // item's tokens stands at position first_position of the list.
    const int32_t* chosen;
};

// Keys [first_key, last_key) of one token's sequence, first_key a multiple of 16.
struct IndexItem {
    const int32_t* block_ids;
    int64_t token, n_head, first_key, last_key;
    float* scores;  // of all its keys; written up to the next multiple of 16 after last_key
};

struct LatentShape {
    int64_t n_head, value_width;
    float scale;
};

// Tokens of one row that are looked at together when one is chosen.
constexpr int64_t kChoiceBlock = 64;
// Logits in order of size: kMassBins of equal steps of exp2(x), then one for all whose mass is zero.
constexpr int kMassBins = 2001, kMasslessBin = 2001, kBins = 2002;
constexpr float kBinsPerPower = 50.0f;

// A row to draw from: scores are (x - highest) * rate.
struct NoisyRow {
    const float* x;
    int64_t n;
    float highest, rate;
    uint32_t position;
    uint64_t seed;
};

// Rows to be added: row positions[i] of values times weights[i], for i = 0 .. n - 1.
struct WeightedRows {
    const float* values;
    const int32_t* positions;
    const float* weights;
    int64_t n;
};

struct VectorKernels {
    // y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight. x, y [n_rows, n]
    void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, int64_t n_rows, float* y);
    // y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias of each row, in 16 running sums. x, y [n_rows, n]
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int64_t n, int64_t n_rows, float* y);
    // y = gate / (1 + exp(-gate)) * up
    void (*silu_mul)(const float* gate, const float* up, int64_t n, float* y);
    // y = gelu(gate) * up, with the tangent's exponential
    void (*gelu_mul)(const float* gate, const float* up, int64_t n, float* y);
    // y = exp(x), the one exponential that silu_mul and attention have too. y may be x.
    void (*exp)(const float* x, int64_t n, float* y);
    // One head of k, v [n_head_kv, head_dim] of one token into slot = block_id * block_size + offset.
    void (*store_kv)(const float* k, const float* v, const PagedCache& cache, int64_t slot, int64_t head);
    // q, y [n_tokens, n_head, head_dim]; scratch of attention_scratch_floats().
    void (*attention)(const float* q, const PagedCache& cache, const AttentionShape& shape, const AttentionItem& item,
                      float* scratch, float* y);
    // One row of latents [head_dim] into a slot of a cache whose keys and values are the same rows (latent_attention.h).
    void (*store_latent)(const float* row, const PagedCache& cache, int64_t slot);
    // q [n_tokens, n_head, head_dim], y [n_tokens, n_head, value_width]; scratch of latent_scratch_floats().
    void (*latent_attention)(const float* q, const PagedCache& cache, const LatentShape& shape, const LatentItem& item,
                             float* scratch, float* y);
    // q [n_tokens, n_head, head_dim], weights [n_tokens, n_head] of the whole pass; scratch [16 * width_padded].
    void (*index_scores)(const float* q, const float* weights, const PagedCache& cache, const IndexItem& item, float* scratch);
    // The highest of x; a NaN where x has a NaN or +infinity.
    float (*highest)(const float* x, int64_t n);
    // The start of the first block from `first` on, both multiples of kChoiceBlock, that has a value of at least `least`; n
    // where there is none.
    int64_t (*next_block)(const float* x, int64_t n, int64_t first, float least);
    // amounts [kBins] += of each value in its bin 1, or its mass. `rate` is what mass_of takes.
    void (*add_to_bins)(const float* x, int64_t n, float highest, float rate, bool masses, uint64_t* amounts);
    // The start of the first block from `first` on where a score and its noise may add up to `least`, and the words of the
    // block's noise [kChoiceBlock]; n where there is none. Rates from 1e-30 on, or 0.
    int64_t (*next_draws)(const NoisyRow& row, int64_t first, double least, uint32_t* words);
    // y [n] = residual + the sum over the rows, from zero on, one fused multiply-add each. values [.., n]
    void (*weighted_sum)(const WeightedRows& rows, int64_t n, const float* residual, float* y);
    // y = x / (1 + exp(-gate))
    void (*sigmoid_mul)(const float* x, const float* gate, int64_t n, float* y);
    // y = residual + x / (1 + exp(-gate))
    void (*add_gated)(const float* residual, const float* x, float gate, int64_t n, float* y);
    void (*causal_conv)(const ConvPass& pass, const ConvItem& item);
    // The normed queries and keys of a token, and the decay and gain of each of its heads.
    void (*delta_inputs)(const DeltaInputs& pass, int64_t token);
    void (*delta_net)(const DeltaPass& pass, const DeltaItem& item);
};

// Four floats a row; the vectors behind them stay on cache lines.
inline int64_t attention_row_numbers(int64_t n_rows) { return (4 * n_rows + 15) / 16 * 16; }

// Strides: numbers of a query and of an output, rounded up to 16.
inline int64_t attention_scratch_floats(int64_t n_rows, int64_t key_stride, int64_t value_stride) {
    return attention_row_numbers(n_rows) + n_rows * (kKvSplit + key_stride + 2 * value_stride);
}

// And sixteen rows of the cache.
inline int64_t latent_scratch_floats(int64_t n_rows, int64_t key_stride, int64_t value_stride) {
    return 16 * key_stride + attention_scratch_floats(n_rows, key_stride, value_stride);
}

const VectorKernels* vector_kernels_scalar();
const VectorKernels* vector_kernels_avx2();
const VectorKernels* vector_kernels_avx512();

}  // namespace espalier
