// Attention of a tile of queries over the keys and values of one head, a split of kKvSplit positions after the other.
//
// Scores put 16 keys in the lanes, outputs put 16 dimensions there, so nothing is summed across lanes but the
// softmax denominators. For each split a query gets m = max score, l = sum of exp(score - m)
// and o = sum of exp(score - m) * v; splits merge in order. Each sum runs in one order: dimensions ascending, keys
// ascending. A key that a query may not see has the score -inf, and its value is never read for that query. With a
// window a query sees its last so many keys only: splits begin where they do without, those that a query does not see are
// no part of its sums, and keys that no query of a tile sees are not read.
#pragma once

#include "cpu/cached_values.h"
#include "cpu/vector_kernels.h"
#include "cpu/vector_math.h"

namespace espalier::ESPALIER_TIER {

constexpr int kScoreRows = 8;    // queries that share one conversion of 16 keys
constexpr int kOutputRows = 4;   // queries and
constexpr int kValuesAhead = 8;  // positions whose values go to the first-level cache early
constexpr int kOutputDims = 64;  // dimensions that share one conversion of a value row

// The queries of one item, `group` rows for each token, and what is known of them. A row sees positions [begin, visible),
// both of which rise with the row.
struct QueryTile {
    int64_t n_rows, group, first_position;
    int64_t window;  // a row sees so many positions at most, its token's among them
    int64_t key_dim, key_stride;  // numbers of a query, and of a row of q: rounded up to 16
    int64_t value_stride;         // numbers of an output, rounded up to 16
    float* q;                     // [n_rows, key_stride]  scaled
    float* scores;                // [n_rows, kKvSplit]
    float* partial;               // [n_rows, value_stride]  o of this split
    float* output;                // [n_rows, value_stride]  merged o
    float *m, *l, *merged_m, *merged_l;  // [n_rows]
    CachedHead values[kKvSplit];         // of this split's positions

    int64_t visible(int64_t row) const { return first_position + row / group + 1; }
    int64_t begin(int64_t row) const { return visible(row) > window ? visible(row) - window : 0; }
    int64_t first_split(int64_t row) const { return begin(row) / kKvSplit * kKvSplit; }
    // The first position of a split that is read: the first that a row sees, or up to 15 before it.
    int64_t first_read(int64_t split) const { return begin(0) / 16 * 16 > split ? begin(0) / 16 * 16 : split; }
};

// Places in scratch of attention_scratch_floats() for as many rows, with these widths, as the tile says.
static void lay_out(float* scratch, QueryTile& t) {
    t.m = scratch;
    t.l = t.m + t.n_rows, t.merged_m = t.l + t.n_rows, t.merged_l = t.merged_m + t.n_rows;
    t.q = scratch + attention_row_numbers(t.n_rows);
    t.scores = t.q + t.n_rows * t.key_stride;
    t.partial = t.scores + t.n_rows * kKvSplit;
    t.output = t.partial + t.n_rows * t.value_stride;
}

static inline void load_query(const float* from, float scale, const QueryTile& t, int64_t row) {
    for (int64_t d = 0; d < t.key_dim; ++d) t.q[row * t.key_stride + d] = from[d] * scale;
}

// Scores of kRows queries with 16 keys.
template <class C, int kRows>
static inline void score_keys(const float* q, int64_t q_stride, const CachedHead& keys, int64_t head_dim,
                              int64_t block_size, F32* acc) {
    for (int r = 0; r < kRows; ++r) acc[r] = splat(0.0f);
    for (int64_t first = 0; first < head_dim; first += kKvScaleDims) {
        const auto scale = C::key_scale(keys, first, block_size);
        const int64_t last = first + kKvScaleDims < head_dim ? first + kKvScaleDims : head_dim;
        for (int64_t d = first; d < last; ++d) {
            const F32 key = C::load(keys, d * block_size, scale);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) acc[r] = fma(splat(q[r * q_stride + d]), key, acc[r]);
        }
    }
}

static inline F32 lane_numbers() {
    static const float numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(numbers);
}

template <class C, int kRows>
static inline void score_rows(const QueryTile& t, int64_t row, const CachedHead& keys, int64_t block_size,
                              int64_t position, int64_t column) {
    F32 acc[kRows];
    score_keys<C, kRows>(t.q + row * t.key_stride, t.key_stride, keys, t.key_dim, block_size, acc);
    const F32 unseen = splat(-__builtin_inff());
    for (int r = 0; r < kRows; ++r) {
        const Mask seen = less(lane_numbers(), splat(float(t.visible(row + r) - position)));
        const Mask passed = less(lane_numbers(), splat(float(t.begin(row + r) - position)));
        store(t.scores + (row + r) * kKvSplit + column, select(passed, unseen, select(seen, acc[r], unseen)));
    }
}

// Scores of the rows from `row` on: kRows at once while there are as many, then half as many ...
template <class C, int kRows>
static inline void score_rows_from(const QueryTile& t, int64_t row, const CachedHead& keys, int64_t block_size,
                                   int64_t position, int64_t column) {
    for (; row + kRows <= t.n_rows; row += kRows) score_rows<C, kRows>(t, row, keys, block_size, position, column);
    if constexpr (kRows > 1) score_rows_from<C, kRows / 2>(t, row, keys, block_size, position, column);
}

// Scores of positions [first, last) become exp(score - m); m and l of the split.
static void softmax_row(const QueryTile& t, int64_t row, int64_t first, int64_t last) {
    const int64_t begin = t.first_read(first) - first, end = (last - first + 15) / 16 * 16;
    float* scores = t.scores + row * kKvSplit;
    F32 largest = splat(-__builtin_inff());
    for (int64_t c = begin; c < end; c += 16) largest = max(largest, load(scores + c));
    const float m = reduce_max(largest);
    F32 sum = splat(0.0f);
    for (int64_t c = begin; c < end; c += 16) {
        const F32 p = exponential(sub(load(scores + c), splat(m)));
        store(scores + c, p);
        sum = add(sum, p);
    }
    t.m[row] = m;
    t.l[row] = reduce_add(sum);
}

// acc += the values of positions [from, to) of the split, for a query that has these weights.
template <class C, int kVectors>
static inline void weigh_alone(const QueryTile& t, const float* weights, int64_t from, int64_t to, int64_t dim, F32* acc) {
    for (int64_t i = from; i < to; ++i) {
        const F32 weight = splat(weights[i]);
        for (int v = 0; v < kVectors; ++v) acc[v] = fma(weight, C::load_values(t.values[i], dim + 16 * v), acc[v]);
    }
}

// o of kRows queries, kVectors * 16 dimensions from `dim` on. The keys that all of them see share their conversion; the
// few before and after these that only some see are added query by query: a weight of zero would let a NaN through.
template <class C, int kRows, int kVectors>
static inline void weigh_values(const QueryTile& t, int64_t first, int64_t last, int64_t row, int64_t dim) {
    F32 acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) acc[r][v] = splat(0.0f);
    const float* weights = t.scores + row * kKvSplit;
    const int64_t n = last - first;
    const auto within = [&](int64_t position) { return position < first ? 0 : position < last ? position - first : n; };
    const int64_t shared = within(t.begin(row + kRows - 1)), shared_end = within(t.visible(row));
    for (int r = 0; r < kRows; ++r) {
        const int64_t end = within(t.visible(row + r));
        weigh_alone<C, kVectors>(t, weights + r * kKvSplit, within(t.begin(row + r)), shared < end ? shared : end, dim, acc[r]);
    }
    for (int64_t i = shared; i < shared_end; ++i) {
        const int64_t ahead = i + kValuesAhead < n ? i + kValuesAhead : n - 1;
        prefetch(t.values[ahead].data), prefetch(t.values[ahead].data + 64);
        F32 value[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) value[v] = C::load_values(t.values[i], dim + 16 * v);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            const F32 weight = splat(weights[r * kKvSplit + i]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(weight, value[v], acc[r][v]);
        }
    }
    for (int r = 0; r < kRows; ++r)
        weigh_alone<C, kVectors>(t, weights + r * kKvSplit, shared > shared_end ? shared : shared_end,
                                 within(t.visible(row + r)), dim, acc[r]);
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(t.partial + (row + r) * t.value_stride + dim + 16 * v, acc[r][v]);
}

template <class C, int kRows>
static inline void weigh_rows(const QueryTile& t, int64_t first, int64_t last, int64_t row) {
    int64_t dim = 0;
    for (; dim + kOutputDims <= t.value_stride; dim += kOutputDims)
        weigh_values<C, kRows, kOutputDims / 16>(t, first, last, row, dim);
    for (; dim < t.value_stride; dim += 16) weigh_values<C, kRows, 1>(t, first, last, row, dim);
}

// The split's (m, l, o) of one query joins what came before.
static void merge_row(const QueryTile& t, int64_t row, bool first_split) {
    float* merged = t.output + row * t.value_stride;
    const float* partial = t.partial + row * t.value_stride;
    const float m = t.m[row], before = t.merged_m[row];
    if (first_split) {
        t.merged_m[row] = m, t.merged_l[row] = t.l[row];
        for (int64_t d = 0; d < t.value_stride; d += 16) store(merged + d, load(partial + d));
        return;
    }
    const float both = before > m ? before : m;
    const F32 old_share = exponential(splat(before - both)), new_share = exponential(splat(m - both));
    t.merged_m[row] = both;
    t.merged_l[row] = reduce_max(fma(splat(t.l[row]), new_share, mul(splat(t.merged_l[row]), old_share)));
    for (int64_t d = 0; d < t.value_stride; d += 16)
        store(merged + d, fma(load(partial + d), new_share, mul(load(merged + d), old_share)));
}

// t.values of positions [first, last) are weighed, and every row's o is joined with what came before.
template <class C>
static void weigh_split(const QueryTile& t, int64_t first, int64_t last) {
    int64_t row = 0;
    for (; row + kOutputRows <= t.n_rows; row += kOutputRows) weigh_rows<C, kOutputRows>(t, first, last, row);
    for (; row < t.n_rows; ++row) weigh_rows<C, 1>(t, first, last, row);
    for (row = 0; row < t.n_rows; ++row)
        if (t.visible(row) > first && t.begin(row) < last) merge_row(t, row, first == t.first_split(row));
}

// The first n numbers of a row's output.
static inline void store_output(const QueryTile& t, int64_t row, int64_t n, float* out) {
    const F32 l = splat(t.merged_l[row]);
    for (int64_t d = 0; d < n; d += 16)
        store_first(out + d, div(load(t.output + row * t.value_stride + d), l), lanes_left(n, d));
}

}  // namespace espalier::ESPALIER_TIER
