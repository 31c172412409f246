// Causal attention over rows that are keys and values at once (multi-head latent attention, absorbed form), for the
// queries of a few tokens and several heads. The sums are those of attention_rows.h.
//
// A row lies as the values of a paged cache do, [block_size][width_padded], so outputs read the rows themselves. Scores
// want 16 keys in the lanes: sixteen rows are turned once for all queries of an item, into float32, which is exact.
#pragma once

#include "cpu/attention_rows.h"

namespace espalier::ESPALIER_TIER {

// Sixteen rows on their side, [width][16] float32: what scores read where keys of a paged cache lie in blocks.
struct TurnedRows {
    struct NoScale {};
    static NoScale key_scale(const CachedHead&, int64_t, int64_t) { return {}; }
    static F32 load(const CachedHead& keys, int64_t at, NoScale) {
        return espalier::ESPALIER_TIER::load(reinterpret_cast<const float*>(keys.data) + at);
    }
};

// The rows of positions offset .. offset + 15 of a block. [width_padded, 16]
template <class C>
static void turn_rows(const PagedCache& cache, int64_t block, int64_t offset, float* turned) {
    CachedHead from[16];
    for (int i = 0; i < 16; ++i) from[i] = C::values(cache, block, 0, offset + i);
    for (int64_t d = 0; d < cache.head_dim_padded(); d += 16) {
        F32 rows[16];
        for (int i = 0; i < 16; ++i) rows[i] = C::load_values(from[i], d);
        transpose(rows);
        for (int i = 0; i < 16; ++i) store(turned + (d + i) * 16, rows[i]);
    }
}

template <class C>
static void score_turned(const QueryTile& t, const PagedCache& cache, const AttentionItem& item, int64_t first, int64_t last,
                         float* turned) {
    for (int64_t position = first; position < last; position += 16) {
        turn_rows<C>(cache, item.block_ids[position / cache.block_size], position % cache.block_size, turned);
        const CachedHead keys{reinterpret_cast<uint8_t*>(turned), nullptr};
        score_rows_from<TurnedRows, kScoreRows>(t, 0, keys, 16, position, position - first);
    }
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
        score_turned<C>(t, cache, item.queries, first, last, turned);
        for (int64_t row = 0; row < t.n_rows; ++row) softmax_row(t, row, first, last);
        weigh_split<C>(t, cache, item.queries, first, last);
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
    else CachedQ8::store_value(row, cache, CachedQ8::values(cache, block, 0, offset));
}

}  // namespace espalier::ESPALIER_TIER
