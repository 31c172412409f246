// Attention of a whole pass: its sequences are cut into items of a few tokens and one KV head, and the items go to
// the threads. How they are cut does not change a query's bits (attention.h).
#pragma once

#include <vector>

#include "cpu/arrays.h"
#include "cpu/guarded_memory.h"
#include "cpu/thread_pool.h"
#include "cpu/vector_kernels.h"

namespace espalier {

struct AttentionPass {
    const int32_t* query_start;   // [n_seqs + 1]
    const int32_t* context_lens;  // [n_seqs]
    const int32_t* block_table;   // [n_seqs, max_blocks]
    int64_t n_seqs, max_blocks;
};

// Every index that a pass is going to follow.
inline void check_pass(const AttentionPass& pass, const PagedCache& cache, int64_t n_tokens) {
    require(pass.query_start[0] == 0 && pass.query_start[pass.n_seqs] == n_tokens, "attention: query_start does not span q");
    for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
        const int64_t n = pass.query_start[seq + 1] - pass.query_start[seq], context = pass.context_lens[seq];
        require(n >= 0 && context >= n && context <= pass.max_blocks * cache.block_size,
                "attention: a context is shorter than its queries or longer than its blocks");
        for (int64_t i = 0; i * cache.block_size < context; ++i) {
            const int64_t block = pass.block_table[seq * pass.max_blocks + i];
            if (block < 0 || block >= cache.n_blocks) refuse("block " + std::to_string(block) + " is not in the cache");
        }
    }
}

inline AttentionPass pass_of(const Ints& query_start, const Ints& context_lens, const Ints& block_table) {
    require(block_table.ndim() == 2 && query_start.size() == context_lens.size() + 1 &&
                dim(block_table, 0) == int64_t(context_lens.size()),
            "attention: query_start [n_seqs + 1], context_lens [n_seqs], block_table [n_seqs, max_blocks]");
    return {query_start.data(), context_lens.data(), block_table.data(), int64_t(context_lens.size()), dim(block_table, 1)};
}

class PagedAttention {
public:
    void run(const VectorKernels& kernels, ThreadPool& pool, const float* q, const PagedCache& cache,
             const AttentionShape& shape, const AttentionPass& pass, float* y) {
        cut(cache, shape, pass);
        scratch_.resize(size_t(pool.n_threads()));
        const int64_t n_items = int64_t(items_.size());
        // The last items see the most keys: they go first, so that no thread ends on a long one.
        pool.run(n_items, [&](int64_t i, int worker) {
            const AttentionItem& item = items_[size_t(n_items - 1 - i)];
            const int64_t padded = cache.head_dim_padded();
            const int64_t n_floats = attention_scratch_floats(item.n_tokens * shape.group, padded, padded);
            kernels.attention(q, cache, shape, item, scratch_[size_t(worker)].of<float>(n_floats), y);
        });
    }

private:
    void cut(const PagedCache& cache, const AttentionShape& shape, const AttentionPass& pass) {
        items_.clear();
        const int64_t tokens = shape.group < kQueryRows ? kQueryRows / shape.group : 1;
        for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
            const int64_t start = pass.query_start[seq], end = pass.query_start[seq + 1];
            const int64_t n_before = pass.context_lens[seq] - (end - start);
            for (int64_t first = start; first < end; first += tokens) {
                const int64_t n = first + tokens < end ? tokens : end - first;
                for (int64_t head = 0; head < cache.n_head_kv; ++head)
                    items_.push_back({pass.block_table + seq * pass.max_blocks, first, n, n_before + first - start, head});
            }
        }
    }

    std::vector<AttentionItem> items_;  // kept between passes: a decode step allocates nothing
    std::vector<ScratchBuffer> scratch_;
};

}  // namespace espalier
