// Scores of sixteen queries (attention_tile.cuh) become weights, and these sums of values, step by step through a split.
#pragma once

#include "cuda/attention_tile.cuh"

namespace espalier {

constexpr unsigned kOnes = 0x3C003C00u;  // two halves
constexpr float kLn2 = 0.693147181f;

// What a lane holds of one split: sums of weighted values, sums of weights (in every column the same) and the largest
// scores, which are powers of two.
template <class Form>
struct Sums {
    float o[Form::kSlabs][Form::kDimTiles][4];
    float l[4];
    float m[2];

    // Of the lane's row i, as attention_merge takes them: the largest score is a power of e.
    ESP_FN float merged_m(int i) const { return m[i] * kLn2; }
    ESP_FN float merged_l(int i) const { return l[2 * i]; }
};

constexpr uint32_t kLowest = 0xFF800000u;  // minus infinity

// The lowest score where a row does not see the key.
ESP_FN void mask_scores(const Tile& tile, int first, float (&s)[kStepTiles][4]) {
    const auto mask_where = [&](const auto& unseen) {
#pragma unroll
        for (int i = 0; i < 4 * kStepTiles; ++i) {
            const int run = i / 4 / kRunTiles, j = i / 4 % kRunTiles;
            const int position = first + kRun * run + 8 * tile.t + 4 * (i % 2) + j;
            if (unseen(i / 2 % 2, position)) s[i / 4][i % 4] = float_from_bits(kLowest);
        }
    };
    if (tile.end - first > tile.pass.window)  // not every row's window has begun
        mask_where([&](int i, int position) { return position + tile.pass.window < tile.visible[i]; });
    mask_where([&](int i, int position) { return position >= tile.visible[i]; });
}

// Scores become weights. The sums so far are to be multiplied by `share` [2].
ESP_FN void weigh_scores(float (&s)[kStepTiles][4], float (&m)[2], float (&share)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float largest = m[half];
#pragma unroll
        for (int i = 0; i < kStepTiles; ++i)
            largest = max(largest, max(s[i][2 * half], s[i][2 * half + 1]));  // a NaN is passed over
#pragma unroll
        for (int bits = 1; bits < 4; bits *= 2) largest = max(largest, shfl_xor(largest, bits));
        share[half] = m[half] == largest ? 1.0f : exp2_fast(m[half] - largest);
        m[half] = largest;
        const float subtracted = largest == float_from_bits(kLowest) ? 0.0f : largest;  // of a row that has seen nothing
#pragma unroll
        for (int i = 0; i < kStepTiles; ++i) {
            s[i][2 * half] = exp2_fast(s[i][2 * half] - subtracted);
            s[i][2 * half + 1] = exp2_fast(s[i][2 * half + 1] - subtracted);
        }
    }
}

// A product with zero does not hide a value that is NaN or infinite, and not every row sees these sixteen keys, or nobody
// does (what lies beyond a context may be anything). So such values are taken out, and a row that sees one is NaN there.
template <int kTiles>
ESP_FN void guard_values(const Tile& tile, int position, ValueRows<kTiles>& values, float (&o)[kTiles][4]) {
    const auto bad_of = [&](int i, unsigned(&mask)[2]) {
        values.fragment(i, mask);
        mask[0] = not_finite(mask[0]), mask[1] = not_finite(mask[1]);
    };
    unsigned bad[2], any_bad = 0;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) bad_of(i, bad), any_bad |= bad[0] | bad[1];
    if (!warp_any(any_bad != 0)) return;
    unsigned seen[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int of_lane = position + 8 * tile.t + i / 2;
        seen[i] = (tile.sees(i % 2, of_lane) ? kOnes & 0xFFFFu : 0u) | (tile.sees(i % 2, of_lane + 4) ? kOnes << 16 : 0u);
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
        float n_bad[4] = {};
        bad_of(i, bad);
        const unsigned ones[2] = {bad[0] & kOnes, bad[1] & kOnes};
        mma_f16(n_bad, seen, ones);
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (n_bad[j] > 0.0f) o[i][j] = float_from_bits(0x7FC00000u);
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) bad_of(i, bad), values.take_out(i, bad);
}

// The first dimension of one of the warp's slabs. Of a slab a lane brings kDimTiles values of a position, from
// kDimTiles * g on, and gets twice as many sums, from 2 * kDimTiles * t on.
template <class Form>
ESP_FN int slab_dim(int slab) {
    return Form::kDims * Form::warp() + 8 * Form::kDimTiles * slab;
}

// Of sixteen keys of a step.
template <class Form>
ESP_FN void load_values(const Tile& tile, const Places& places, int chunk, int slab, ValueRows<Form::kDimTiles>& values) {
    const Place& place = places[chunk / 2];
    const int dim = slab_dim<Form>(slab) + Form::kDimTiles * tile.g;
    values.load(tile.cache, place.block, tile.queries.head_kv, place.offset + 2 * (chunk % 2), dim, tile.t);
}

// sums += weights times values of a step.
template <class Form, bool is_masked>
ESP_FN void weigh_values(const Tile& tile, const Places& places, int first, const float (&p)[kStepTiles][4],
                         const ValueRows<Form::kDimTiles> (&early)[kStepTiles / 2], Sums<Form>& sums) {
#pragma unroll
    for (int chunk = 0; chunk < kStepTiles / 2; ++chunk) {
        unsigned high[4], low[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            split_pair(p[2 * chunk + i / 2][i % 2 * 2], p[2 * chunk + i / 2][i % 2 * 2 + 1], high[i], low[i]);
        const unsigned ones[1][2] = {{kOnes, kOnes}};
        multiply_tiles(&sums.l, high, low, ones);
#pragma unroll
        for (int slab = 0; slab < Form::kSlabs; ++slab) {
            ValueRows<Form::kDimTiles> values;
            if constexpr (Form::kAsksEarly) values = early[chunk];
            else load_values<Form>(tile, places, chunk, slab, values);
            if constexpr (is_masked) guard_values(tile, first + kRun * (chunk / 2) + 2 * (chunk % 2), values, sums.o[slab]);
            unsigned b[Form::kDimTiles][2];
#pragma unroll
            for (int i = 0; i < Form::kDimTiles; ++i) values.fragment(i, b[i]);
            multiply_tiles(sums.o[slab], high, low, b);
            if constexpr (values.kHasRest) {  // of values; times the low halves it is below what two halves hold
#pragma unroll
                for (int i = 0; i < Form::kDimTiles; ++i) values.rest_fragment(i, b[i]);
#pragma unroll
                for (int i = 0; i < Form::kDimTiles; ++i) mma_f16(sums.o[slab][i], high, b[i]);
            }
        }
    }
}

// is_masked: some row does not see every key.
template <class Form, bool is_masked>
ESP_FN void attend_step(const QueryTile& q_tile, const Tile& tile, int first, Scores* exchanged, Sums<Form>& sums) {
    const Places places = {tile.place(first), tile.place(first + kRun)};
    const Runs<Form> runs = runs_of<Form>(tile, places);
    const int n_chunks = tile.cache.head_dim / kChunkDims;
    AskedKeys<Form> asked;
    ValueRows<Form::kDimTiles> early[kStepTiles / 2];
    asked.begin(runs.runs, n_chunks, tile.t);
    if constexpr (Form::kAsksEarly) {
#pragma unroll
        for (int chunk = 0; chunk < kStepTiles / 2; ++chunk) load_values<Form>(tile, places, chunk, 0, early[chunk]);
    }
    float part[Form::kWarpKeyTiles][4] = {}, s[kStepTiles][4], share[2];
    score_keys<Form>(q_tile, runs.runs, n_chunks, tile.t, asked, part);
    exchange_scores<Form>(part, first, exchanged, s);
    if constexpr (is_masked) mask_scores(tile, first, s);
    weigh_scores(s, sums.m, share);
#pragma unroll
    for (int j = 0; j < 4; ++j) sums.l[j] *= share[j / 2];
#pragma unroll
    for (int slab = 0; slab < Form::kSlabs; ++slab)
#pragma unroll
        for (int i = 0; i < 4 * Form::kDimTiles; ++i) sums.o[slab][i / 4][i % 4] *= share[i % 4 / 2];
    weigh_values<Form, is_masked>(tile, places, first, s, early, sums);
}

template <class Form>
ESP_FN void attend_split(const QueryTile& q_tile, const Tile& tile, int first, int end, Scores* exchanged,
                         Sums<Form>& sums) {
    sums = {};
    sums.m[0] = sums.m[1] = float_from_bits(kLowest);
    first = max(first, (tile.complete - tile.pass.window) / kStep * kStep);
#pragma unroll 1
    for (; first + kStep <= min(tile.complete, end); first += kStep) {
        if (tile.end - first > tile.pass.window) break;  // not every row's window has begun
        attend_step<Form, false>(q_tile, tile, first, exchanged, sums);
    }
#pragma unroll 1
    for (; first < end; first += kStep) attend_step<Form, true>(q_tile, tile, first, exchanged, sums);
}

}  // namespace espalier
