// What both forms of attention (attention.cu, attention_tensor.cu) share: a pass and its parameters, which queries a block
// has, and how the splits of a query are merged.
#pragma once

#include "cuda/float_math.cuh"
#include "cuda/kv_cache.cuh"

namespace espalier {

constexpr int kSplit = 256;  // positions (kernels/ops.py, KV_SPLIT)

struct Pass {
    const int* query_start;   // [n_seqs + 1]
    const int* context_lens;  // [n_seqs]
    const int* block_table;   // [n_seqs, max_blocks]
    int n_seqs, max_blocks, n_tokens, n_head;
    float scale;
    int window;  // a query sees so many positions at most, its own among them

    ESP_FN int group(const Cache& cache) const { return n_head / cache.n_head_kv; }
};

// The first position that a query of the last visible one sees, and where the split of a position begins.
ESP_FN int begin_of(int visible, int window) { return max(0, visible - window); }
ESP_FN int split_at(int position) { return position / kSplit * kSplit; }

// Queries of consecutive tokens of one sequence and consecutive heads of one KV head.
struct Queries {
    int seq, first_token, n_tokens, first_head, n_heads, head_kv;
    int first_visible, window;  // the first token's, and the pass's

    ESP_FN int n_rows() const { return n_tokens * n_heads; }
    // A row sees positions [begin, visible), both rising with the row.
    ESP_FN int visible(int row) const { return first_visible + row / n_heads; }
    ESP_FN int begin(int row) const { return begin_of(visible(row), window); }
    ESP_FN int first_split(int row) const { return split_at(begin(row)); }
    ESP_FN int64_t query(int row, int n_head) const {
        return int64_t(first_token + row / n_heads) * n_head + first_head + row % n_heads;
    }
};

// The sequence of a token: the last whose range begins at or before it and is not empty.
ESP_FN int sequence_of(const Pass& pass, int token) {
    int low = 0, high = pass.n_seqs - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (pass.query_start[middle] <= token) low = middle;
        else high = middle - 1;
    }
    return low;
}

// Tokens of sequence `seq` from first_token on, at most n_tokens of them, and at most n_rows heads.
ESP_FN Queries queries_of(const Pass& pass, const Cache& cache, int seq, int first_token, int n_tokens, int first_head,
                          int n_rows) {
    const int end = pass.query_start[seq + 1], group = pass.group(cache);
    Queries queries;
    queries.seq = seq;
    queries.first_token = first_token;
    queries.n_tokens = min(n_tokens, end - first_token);
    queries.first_head = first_head;
    queries.head_kv = first_head / group;
    queries.n_heads = min(n_rows, (queries.head_kv + 1) * group - first_head);
    queries.first_visible = pass.context_lens[seq] - (end - 1 - first_token);
    queries.window = pass.window;
    return queries;
}

// Tokens from first_token on, at most n_tokens of them, that belong to one sequence.
ESP_FN Queries queries_from(const Pass& pass, const Cache& cache, int first_token, int n_tokens, int first_head, int n_rows) {
    return queries_of(pass, cache, sequence_of(pass, first_token), first_token, n_tokens, first_head, n_rows);
}

// The head chunk of blockIdx.x: chunks of up to n_rows heads, ceil(group / n_rows) of them for each KV head.
ESP_FN int first_head_of(const Pass& pass, const Cache& cache, int n_rows, int chunk) {
    const int group = pass.group(cache), n_chunks = (group + n_rows - 1) / n_rows;
    return chunk / n_chunks * group + chunk % n_chunks * n_rows;
}

ESP_FN float warp_largest(float v) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
        const float other = shfl_xor(v, bits);
        v = v > other ? v : other;
    }
    return v;
}

// One query's scores of a split become weights, exp(score - m); m is the largest, l the sum of the weights: sixteen running
// sums, then halves. One warp.
ESP_FN void softmax_row(float (&scores)[kSplit], float& m, float& l) {
    constexpr int kSumLanes = 16;
    const int lane = threadIdx.x & 31;
    float largest = scores[lane];
    for (int c = lane + 32; c < kSplit; c += 32) largest = largest > scores[c] ? largest : scores[c];
    largest = warp_largest(largest);
    for (int c = lane; c < kSplit; c += 32) scores[c] = exponential(scores[c] - largest);
    warp_sync();
    float sum = 0.0f;
    if (lane < kSumLanes)
        for (int c = lane; c < kSplit; c += kSumLanes) sum = sum + scores[c];
    sum = halving_sum(sum);
    if (lane == 0) m = largest, l = sum;
}

struct Shares {
    float old_share, new_share, m, l;
};

// How (m, l) of a split joins what came before.
ESP_FN Shares merge_shares(float before_m, float before_l, float m, float l) {
    const float both = before_m > m ? before_m : m;
    const float old_share = exponential(before_m - both), new_share = exponential(m - both);
    return {old_share, new_share, both, fma_f32(l, new_share, before_l * old_share)};
}

ESP_FN float merge_value(const Shares& shares, float before, float value) {
    return fma_f32(value, shares.new_share, before * shares.old_share);
}

#define ESP_ATTENTION_PARAMETERS                                                                                       \
    const float *q, uint8_t *k, uint8_t *v, const int *query_start, const int *context_lens,                           \
        const int *block_table, int n_seqs, int max_blocks, int n_tokens, int n_head, int n_head_kv, int head_dim,     \
        int block_size, float scale, int window
#define ESP_ATTENTION_CACHE \
    Cache { k, v, n_head_kv, head_dim, block_size }
#define ESP_ATTENTION_PASS \
    Pass { query_start, context_lens, block_table, n_seqs, max_blocks, n_tokens, n_head, scale, window }

}  // namespace espalier
