// What an indexer picks for the tokens of a pass: scores of all keys (indexer.h), then the best of them.
//
// Scores of a few tokens at a time are held, so that memory has a bound; tokens and ranges of keys go to the threads.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/paged_attention.h"

namespace espalier {

// Larger for larger scores, 0 for NaN; the two zeros are equal.
inline uint32_t ordered_score(float x) {
    if (x != x) return 0;
    const float plain = x + 0.0f;
    uint32_t bits;
    std::memcpy(&bits, &plain, sizeof bits);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

// The positions of the k best of n scores, rising, ties by the lower one, and -1 after them. out [k]
inline void pick_best(const float* scores, int64_t n, int64_t k, std::vector<uint32_t>& ordered, int32_t* out) {
    std::fill(out, out + k, -1);
    if (n <= k) {
        for (int64_t i = 0; i < n; ++i) out[i] = int32_t(i);
        return;
    }
    ordered.resize(size_t(n));
    std::transform(scores, scores + n, ordered.begin(), ordered_score);
    std::nth_element(ordered.begin(), ordered.begin() + (n - k), ordered.end());
    const uint32_t least = ordered[size_t(n - k)];
    int64_t n_ties = k - std::count_if(ordered.begin() + (n - k), ordered.end(), [least](uint32_t x) { return x > least; });
    for (int64_t i = 0, at = 0; at < k; ++i) {
        const uint32_t score = ordered_score(scores[i]);
        if (score > least || (score == least && n_ties-- > 0)) out[at++] = int32_t(i);
    }
}

struct IndexQueries {
    const float *q, *weights;  // [n_tokens, n_head, width], [n_tokens, n_head]
    int64_t n_head;
};

class Indexer {
public:
    // out [n_tokens, top_k]
    void run(const VectorKernels& kernels, ThreadPool& pool, const IndexQueries& queries, const PagedCache& cache,
             const AttentionPass& pass, int64_t top_k, int32_t* out) {
        turned_.resize(size_t(pool.n_threads())), ordered_.resize(size_t(pool.n_threads()));
        tokens_.clear();
        int64_t n_floats = 0;
        for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
            const int64_t start = pass.query_start[seq], end = pass.query_start[seq + 1];
            for (int64_t token = start; token < end; ++token) {
                const int64_t n_keys = pass.context_lens[seq] - (end - 1 - token), stride = (n_keys + 15) / 16 * 16;
                if (n_floats + stride > kHeldScores && !tokens_.empty()) {
                    pick(kernels, pool, queries, cache, n_floats, top_k, out);
                    n_floats = 0;
                }
                tokens_.push_back({pass.block_table + seq * pass.max_blocks, token, n_keys, n_floats});
                if (n_keys > top_k) n_floats += stride;  // else it picks them all
            }
        }
        pick(kernels, pool, queries, cache, n_floats, top_k, out);
    }

private:
    static constexpr int64_t kHeldScores = int64_t(1) << 24;
    static constexpr int64_t kItemKeys = 2048;  // a multiple of 16

    struct Token {
        const int32_t* block_ids;
        int64_t token, n_keys, at;  // at: of its scores in those held
    };

    void pick(const VectorKernels& kernels, ThreadPool& pool, const IndexQueries& queries, const PagedCache& cache,
              int64_t n_floats, int64_t top_k, int32_t* out) {
        float* scores = scores_.of<float>(std::max<int64_t>(n_floats, 1));
        items_.clear();
        for (const Token& t : tokens_)
            for (int64_t key = 0; t.n_keys > top_k && key < t.n_keys; key += kItemKeys)
                items_.push_back({t.block_ids, t.token, queries.n_head, key, std::min(key + kItemKeys, t.n_keys), scores + t.at});
        pool.run(int64_t(items_.size()), [&](int64_t i, int worker) {
            float* turned = turned_[size_t(worker)].of<float>(16 * cache.head_dim_padded());
            kernels.index_scores(queries.q, queries.weights, cache, items_[size_t(i)], turned);
        });
        pool.run(int64_t(tokens_.size()), [&](int64_t i, int worker) {
            const Token& t = tokens_[size_t(i)];
            pick_best(scores + t.at, t.n_keys, top_k, ordered_[size_t(worker)], out + t.token * top_k);
        });
        tokens_.clear();
    }

    std::vector<Token> tokens_;
    std::vector<IndexItem> items_;
    ScratchBuffer scores_;
    std::vector<ScratchBuffer> turned_;
    std::vector<std::vector<uint32_t>> ordered_;
};

}  // namespace espalier
