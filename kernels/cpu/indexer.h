// How much a token would attend to others, by an indexer: for each key the sum over heads of weight * max(0, q . key).
//
// Sixteen keys lie in the lanes. Numbers of a key are summed in rising order, then heads: one fused
// multiply-add each.
#pragma once

#include "cpu/turned_rows.h"

namespace espalier::ESPALIER_TIER {

constexpr int kIndexHeads = 8;  // that share a load of a number of 16 keys

// score + the next kRows heads, of n_head * width numbers of q.
template <int kRows>
static inline F32 add_heads(const float* q, const float* weights, const CachedHead& keys, int64_t width, F32 score) {
    F32 acc[kRows];
    score_keys<TurnedRows, kRows>(q, width, keys, width, 16, acc);
    for (int r = 0; r < kRows; ++r) score = fma(splat(weights[r]), max(splat(0.0f), acc[r]), score);
    return score;
}

template <class C>
static void score_index(const float* q, const float* weights, const PagedCache& cache, const IndexItem& item, float* turned) {
    const int64_t width = cache.head_dim;
    const float *heads = q + item.token * item.n_head * width, *of_heads = weights + item.token * item.n_head;
    for (int64_t key = item.first_key; key < item.last_key; key += 16) {
        CachedHead from[16];
        for (int i = 0; i < 16; ++i)
            from[i] = C::values(cache, item.block_ids[key / cache.block_size], 0, key % cache.block_size + i);
        const CachedHead keys = turn_rows<C>(from, cache.head_dim_padded(), turned);
        F32 score = splat(0.0f);
        int64_t h = 0;
        for (; h + kIndexHeads <= item.n_head; h += kIndexHeads)
            score = add_heads<kIndexHeads>(heads + h * width, of_heads + h, keys, width, score);
        for (; h < item.n_head; ++h) score = add_heads<1>(heads + h * width, of_heads + h, keys, width, score);
        store(item.scores + key, score);
    }
}

static void index_scores(const float* q, const float* weights, const PagedCache& cache, const IndexItem& item, float* scratch) {
    if (cache.type == KvType::kF16) score_index<CachedF16>(q, weights, cache, item, scratch);
    else if (cache.type == KvType::kF32) score_index<CachedF32>(q, weights, cache, item, scratch);
    else score_index<CachedQ8>(q, weights, cache, item, scratch);
}

}  // namespace espalier::ESPALIER_TIER
