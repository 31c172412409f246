// Causal attention over rows that are keys and values at once (multi-head latent attention, absorbed form), for the
// queries of a few tokens and several heads. The sums are those of attention_rows.h.
//
// A row lies as the values of a paged cache do, [block_size][width_padded], so outputs read the rows themselves, and scores
// turn sixteen of them once for all queries of an item. An item may have a list of the positions that its token sees: the
// sums are then those of attention over these rows alone, in the order of the list.
#pragma once

#include "cpu/turned_rows.h"

namespace espalier::ESPALIER_TIER {

// Where the rows that are seen as positions [first, last) lie, and up to the next multiple of 16 once more the last one.
template <class C>
static void find_rows(QueryTile& t, const PagedCache& cache, const LatentItem& item, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        const int64_t position = item.chosen == nullptr ? i : item.chosen[i];
        const int64_t block = item.queries.block_ids[position / cache.block_size];
        t.values[i - first] = C::values(cache, block, 0, position % cache.block_size);
    }
    for (int64_t i = last - first; i % 16 != 0; ++i) t.values[i] = t.values[i - 1];
}

// The index of a row's token and head in q and y.
static inline int64_t query_index(const LatentShape& shape, const LatentItem& item, int64_t row) {
    return (item.queries.first_token + row / item.n_heads) * shape.n_head + item.first_head + row % item.n_heads;
}

template <class C>
static void attend_latent(const float* q, const PagedCache& cache, const LatentShape& shape, const LatentItem& item,
                          float* scratch, float* y) {
    QueryTile t;
    t.n_rows = item.queries.n_tokens * item.n_heads, t.group = item.n_heads, t.first_position = item.queries.first_position;
    t.window = INT64_MAX;  // all that a token may see
    t.key_dim = cache.head_dim, t.key_stride = cache.head_dim_padded(), t.value_stride = (shape.value_width + 15) / 16 * 16;
    float* turned = scratch;  // [width_padded, 16]
    lay_out(scratch + 16 * t.key_stride, t);
    for (int64_t row = 0; row < t.n_rows; ++row)
        load_query(q + query_index(shape, item, row) * t.key_dim, shape.scale, t, row);
    const int64_t end = t.visible(t.n_rows - 1);
    for (int64_t first = 0; first < end; first += kKvSplit) {
        const int64_t last = end < first + kKvSplit ? end : first + kKvSplit;
        find_rows<C>(t, cache, item, first, last);
        for (int64_t i = first; i < last; i += 16) {
            const CachedHead keys = turn_rows<C>(t.values + (i - first), cache.head_dim_padded(), turned);
            score_rows_from<TurnedRows, kScoreRows>(t, 0, keys, 16, i, i - first);
        }
        for (int64_t row = 0; row < t.n_rows; ++row) softmax_row(t, row, first, last);
        weigh_split<C>(t, first, last);
    }
    for (int64_t row = 0; row < t.n_rows; ++row)
        store_output(t, row, shape.value_width, y + query_index(shape, item, row) * shape.value_width);
}

static void latent_attention(const float* q, const PagedCache& cache, const LatentShape& shape, const LatentItem& item,
                             float* scratch, float* y) {
    if (cache.type == KvType::kF16) attend_latent<CachedF16>(q, cache, shape, item, scratch, y);
    else attend_latent<CachedQ8>(q, cache, shape, item, scratch, y);
}

static void store_latent(const float* row, const PagedCache& cache, int64_t slot) {
    const int64_t block = slot / cache.block_size, offset = slot % cache.block_size;
    if (cache.type == KvType::kF16) CachedF16::store_value(row, cache, CachedF16::values(cache, block, 0, offset));
    else if (cache.type == KvType::kF32) CachedF32::store_value(row, cache, CachedF32::values(cache, block, 0, offset));
    else CachedQ8::store_value(row, cache, CachedQ8::values(cache, block, 0, offset));
}

}  // namespace espalier::ESPALIER_TIER
