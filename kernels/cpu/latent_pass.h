// Latent attention of a whole pass: its sequences are cut into items of a few tokens and heads, and the items go to the
// threads. How they are cut does not change a query's bits (attention_rows.h).
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/paged_attention.h"

namespace espalier {

// A cache of rows is the values of one head, which are its keys too.
inline PagedCache latents_of(KvType type, const CacheBytes& rows, int64_t block_size, int64_t width) {
    const PagedCache cache{type, rows.data(), rows.data(), dim(rows, 0), 1, width, block_size};
    require(block_size > 0 && block_size % 16 == 0 && width > 0, "a cache has rows, and blocks of a multiple of 16 positions");
    require(dim(rows, 1) == 1 && dim(rows, 2) == cache.value_bytes(), "the cache of latents is [n_blocks, 1, bytes of a block]");
    return cache;
}

// The positions that each token sees, rising; after the last one -1.
struct ChosenKeys {
    const int32_t* positions;  // [n_tokens, most]
    int64_t most;

    const int32_t* of(int64_t token) const { return positions + token * most; }
    int64_t count(int64_t token) const { return std::find(of(token), of(token) + most, -1) - of(token); }
};

// Every position that a pass is going to follow.
inline void check_chosen(const AttentionPass& pass, const ChosenKeys& chosen) {
    for (int64_t seq = 0; seq < pass.n_seqs; ++seq)
        for (int64_t token = pass.query_start[seq]; token < pass.query_start[seq + 1]; ++token) {
            const int64_t visible = pass.context_lens[seq] - (pass.query_start[seq + 1] - 1 - token), n = chosen.count(token);
            require(n > 0, "sparse_latent_attention: a token sees nothing");
            require_ids(chosen.of(token), n, visible, "chosen position");
        }
}

class LatentAttention {
public:
    void run(const VectorKernels& kernels, ThreadPool& pool, const float* q, const PagedCache& cache, const LatentShape& shape,
             const AttentionPass& pass, const ChosenKeys* chosen, float* y) {
        if (chosen == nullptr) cut(shape, pass, pool.n_threads());
        else cut_by_token(shape, pass, *chosen);
        scratch_.resize(size_t(pool.n_threads()));
        const int64_t n_items = int64_t(items_.size()), value_stride = (shape.value_width + 15) / 16 * 16;
        // The last items see the most keys: they go first, so that no thread ends on a long one.
        pool.run(n_items, [&](int64_t i, int worker) {
            const LatentItem& item = items_[size_t(n_items - 1 - i)];
            const int64_t n_rows = item.queries.n_tokens * item.n_heads;
            const int64_t n_floats = latent_scratch_floats(n_rows, cache.head_dim_padded(), value_stride);
            kernels.latent_attention(q, cache, shape, item, scratch_[size_t(worker)].of<float>(n_floats), y);
        });
    }

private:
    // Heads of an item: as many as share a walk over the rows, fewer where threads would have nothing to do.
    static int64_t heads_together(const LatentShape& shape, int64_t n_tokens, int n_threads) {
        const int64_t items_a_token = n_tokens < n_threads ? (n_threads + n_tokens - 1) / n_tokens : 1;
        return std::min(kQueryRows, (shape.n_head + items_a_token - 1) / items_a_token);
    }

    void cut(const LatentShape& shape, const AttentionPass& pass, int n_threads) {
        items_.clear();
        const int64_t n_heads = heads_together(shape, std::max(pass.query_start[pass.n_seqs], 1), n_threads);
        const int64_t n_tokens = n_heads < kQueryRows ? kQueryRows / n_heads : 1;
        for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
            const int64_t start = pass.query_start[seq], end = pass.query_start[seq + 1];
            const int64_t n_before = pass.context_lens[seq] - (end - start);
            for (int64_t first = start; first < end; first += n_tokens)
                for (int64_t head = 0; head < shape.n_head; head += n_heads)
                    items_.push_back({{pass.block_table + seq * pass.max_blocks, first, std::min(n_tokens, end - first),
                                       n_before + first - start, 0},
                                      head, std::min(n_heads, shape.n_head - head), nullptr});
        }
    }

    void cut_by_token(const LatentShape& shape, const AttentionPass& pass, const ChosenKeys& chosen) {
        items_.clear();
        for (int64_t seq = 0; seq < pass.n_seqs; ++seq)
            for (int64_t token = pass.query_start[seq]; token < pass.query_start[seq + 1]; ++token)
                for (int64_t head = 0; head < shape.n_head; head += kQueryRows)
                    items_.push_back({{pass.block_table + seq * pass.max_blocks, token, 1, chosen.count(token) - 1, 0},
                                      head, std::min(kQueryRows, shape.n_head - head), chosen.of(token)});
    }

    std::vector<LatentItem> items_;  // kept between passes: a decode step allocates nothing
    std::vector<ScratchBuffer> scratch_;
};

}  // namespace espalier
