// Attention of a whole pass: its sequences are cut into items of a few tokens and one KV head, and the items go to
// the threads. How they are cut does not change a query's bits (attention.h).
#pragma once

#include <vector>

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
            const int64_t n_floats = attention_scratch_floats(item.n_tokens * shape.group, cache.head_dim_padded());
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
