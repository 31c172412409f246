// Causal attention over a paged KV cache, for the queries of a few tokens and one KV head at a time: where they lie, and
// what is fetched ahead. The sums are those of attention_rows.h.
#pragma once

#include "cpu/attention_rows.h"

namespace espalier::ESPALIER_TIER {

static QueryTile tile_of(const PagedCache& cache, const AttentionShape& shape, const AttentionItem& item, float* scratch) {
    QueryTile t;
    t.n_rows = item.n_tokens * shape.group, t.group = shape.group, t.first_position = item.first_position, t.window = shape.window;
    t.key_dim = cache.head_dim, t.key_stride = t.value_stride = cache.head_dim_padded();
    lay_out(scratch, t);
    return t;
}

static inline const float* query_of(const float* q, const AttentionShape& shape, const AttentionItem& item,
                                    int64_t row, int64_t head_dim) {
    const int64_t token = item.first_token + row / shape.group;
    return q + (token * shape.n_head + item.head_kv * shape.group + row % shape.group) * head_dim;
}

// A head's blocks lie far apart, and what fetches ahead by itself stops at the end of each. So both halves of a split fetch
// for the other, into the second-level cache: scores this split's values, weighing the next split's keys.
static inline void prefetch_bytes(const uint8_t* from, int64_t n_bytes) {
    for (int64_t at = 0; at < n_bytes; at += 64) prefetch_far(from + at);
}

// The share of keys [position, position + 16) in the bytes of their block; nothing from `end` on.
static inline void prefetch_keys(const PagedCache& cache, const AttentionItem& item, int64_t position, int64_t end) {
    if (position >= end) return;
    const int64_t share = cache.key_bytes() * 16 / cache.block_size;
    const uint8_t* block = cache.keys(item.block_ids[position / cache.block_size], item.head_kv);
    prefetch_bytes(block + position % cache.block_size / 16 * share, share);
}

// Scores of all queries with positions [first, last), first a multiple of kKvSplit.
template <class C>
static void score_split(const QueryTile& t, const PagedCache& cache, const AttentionItem& item, int64_t first,
                        int64_t last) {
    const int64_t block_size = cache.block_size;
    for (int64_t position = t.first_read(first); position < last; position += 16) {
        const int64_t block = item.block_ids[position / block_size], offset = position % block_size;
        const uint8_t* values = C::values(cache, block, item.head_kv, offset).data;
        prefetch_bytes(values, C::values(cache, block, item.head_kv, offset + 16).data - values);
        score_rows_from<C, kScoreRows>(t, 0, C::keys(cache, block, item.head_kv, offset), block_size, position,
                                       position - first);
    }
}

// Where the values of a split's positions lie.
template <class C>
static void find_values(QueryTile& t, const PagedCache& cache, const AttentionItem& item, int64_t first, int64_t last) {
    for (int64_t position = t.first_read(first); position < last;) {
        const int64_t block = item.block_ids[position / cache.block_size];
        for (int64_t offset = position % cache.block_size; offset < cache.block_size && position < last;
             ++offset, ++position)
            t.values[position - first] = C::values(cache, block, item.head_kv, offset);
    }
}

template <class C>
static void attend_split(QueryTile& t, const PagedCache& cache, const AttentionItem& item, int64_t first, int64_t last) {
    score_split<C>(t, cache, item, first, last);
    const int64_t end = t.visible(t.n_rows - 1);
    int64_t ahead = last;
    for (int64_t row = 0; row < t.n_rows; ++row) {
        softmax_row(t, row, first, last);
        for (; ahead < last + kKvSplit * (row + 1) / t.n_rows; ahead += 16) prefetch_keys(cache, item, ahead, end);
    }
    find_values<C>(t, cache, item, first, last);
    weigh_split<C>(t, first, last);
}

template <class C>
static void attend(const float* q, const PagedCache& cache, const AttentionShape& shape, const AttentionItem& item,
                   float* scratch, float* y) {
    QueryTile t = tile_of(cache, shape, item, scratch);
    for (int64_t row = 0; row < t.n_rows; ++row) load_query(query_of(q, shape, item, row, t.key_dim), shape.scale, t, row);
    const int64_t end = t.visible(t.n_rows - 1);
    for (int64_t first = t.first_split(0); first < end; first += kKvSplit)
        attend_split<C>(t, cache, item, first, end < first + kKvSplit ? end : first + kKvSplit);
    for (int64_t row = 0; row < t.n_rows; ++row)
        store_output(t, row, t.key_dim, y + (query_of(q, shape, item, row, t.key_dim) - q));
}

static void attention(const float* q, const PagedCache& cache, const AttentionShape& shape, const AttentionItem& item,
                      float* scratch, float* y) {
    if (cache.type == KvType::kF16) attend<CachedF16>(q, cache, shape, item, scratch, y);
    else attend<CachedQ8>(q, cache, shape, item, scratch, y);
}

template <class C>
static void store_head(const float* k, const float* v, const PagedCache& cache, int64_t slot, int64_t head) {
    const int64_t block = slot / cache.block_size, offset = slot % cache.block_size;
    C::store_key(k + head * cache.head_dim, cache, C::keys(cache, block, head, offset));
    C::store_value(v + head * cache.head_dim, cache, C::values(cache, block, head, offset));
}

static void store_kv(const float* k, const float* v, const PagedCache& cache, int64_t slot, int64_t head) {
    if (cache.type == KvType::kF16) store_head<CachedF16>(k, v, cache, slot, head);
    else store_head<CachedQ8>(k, v, cache, slot, head);
}

}  // namespace espalier::ESPALIER_TIER
