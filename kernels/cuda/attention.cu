// Causal attention over the paged cache, and writing to it. Bit for bit the CPU backend's (kernels/cpu/attention.h):
// scores sum dimensions ascending, outputs sum keys ascending, denominators sum sixteen lanes and halve; splits of 256
// positions give m = max score, l = sum of exp(score - m), o = sum of exp(score - m) * v and merge in order. Threads own keys
// while scoring and dimensions while weighing, so nothing else is summed across threads, and a query's bits depend
// neither on its company nor on how its splits are spread over blocks. A window leaves the splits where they are; keys
// that no query of a block sees are not read.
//
// A block has kSplit threads. One layer's cache, f16 or q8_0: kv_cache.cuh. head_dim is even and at most 256.
#include "cuda/attention_merge.cuh"
#include "cuda/rotation.cuh"

namespace espalier {

constexpr int kRows = 8;         // queries (tokens x heads of one KV head) that share one walk over the keys
constexpr int kMaxHeadDim = 256;

struct Shared {
    float q[kRows][kMaxHeadDim];        // scaled
    float weights[kRows][kSplit];       // scores, then exp(score - m)
    alignas(8) float merged[kRows][kMaxHeadDim];  // taken in pairs
    float m[kRows], l[kRows], merged_m[kRows], merged_l[kRows];
};

ESP_FN void load_queries(Shared& s, const float* q, const Pass& pass, const Cache& cache, const Queries& queries) {
    for (int i = threadIdx.x; i < queries.n_rows() * cache.head_dim; i += kSplit) {
        const int row = i / cache.head_dim, d = i % cache.head_dim;
        s.q[row][d] = q[queries.query(row, pass.n_head) * cache.head_dim + d] * pass.scale;
    }
}

// Scores of one key, thread threadIdx.x of the split at `first`, for all rows; -inf where a row does not see it.
ESP_FN void score_key(Shared& s, const Pass& pass, const Cache& cache, const Queries& queries, int first, int end) {
    const int position = first + int(threadIdx.x), n_rows = queries.n_rows();
    float acc[kRows] = {};
    if (queries.begin(0) <= position && position < end) {
        const int64_t block = pass.block_table[int64_t(queries.seq) * pass.max_blocks + position / cache.block_size];
        const KeyReader keys(cache, block, queries.head_kv, position % cache.block_size);
        constexpr int kGroupPairs = kKvScaleDims / 2;
        for (int group = 0; group < cache.n_scales(); ++group) {
            const float scale = keys.scale(group);
            const int end_pair = min(cache.head_dim / 2, kGroupPairs * (group + 1));
            for (int pair = kGroupPairs * group; pair < end_pair; ++pair) {
                const float2 key = keys.pair(pair, scale);
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    acc[r] = fma_f32(s.q[r][2 * pair], key.x, acc[r]);
                    acc[r] = fma_f32(s.q[r][2 * pair + 1], key.y, acc[r]);
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        if (r < n_rows) {
            const bool seen = queries.begin(r) <= position && position < queries.visible(r);
            s.weights[r][threadIdx.x] = seen ? acc[r] : float_from_bits(0xFF800000u);
        }
}

// Scores become weights; m and l of the split. A warp for each row.
ESP_FN void softmax_rows(Shared& s, int n_rows) {
    for (int row = threadIdx.x >> 5; row < n_rows; row += kSplit / 32) softmax_row(s.weights[row], s.m[row], s.l[row]);
}

// A thread's place while weighing: a pair of dimensions, and every n_apart-th row.
struct Place {
    int pair, first_row, n_apart;
};

ESP_FN Place place_of_thread(const Cache& cache) {
    const int n_pairs = cache.head_dim / 2, n_apart = min(kRows, kSplit / n_pairs);
    return {int(threadIdx.x) % n_pairs, int(threadIdx.x) / n_pairs, n_apart};
}

// out[i] += the values at [position, end) times the weights of row first_row + n_apart * i, where sees(i, position). A key
// that a row does not see is never multiplied: a weight of zero would let a NaN through.
template <class Sees>
ESP_FN void add_values(const Shared& s, const Pass& pass, const Cache& cache, const Queries& queries, const Place& place,
                       int first, int& position, int end, const Sees& sees, float2 (&out)[kRows]) {
    while (position < end) {
        const int64_t block = pass.block_table[int64_t(queries.seq) * pass.max_blocks + position / cache.block_size];
        const int offset = position % cache.block_size, run_end = min(end, position - offset + cache.block_size);
        ValueReader values(cache, block, queries.head_kv, offset, place.pair);
#pragma unroll 4
        for (; position < run_end; ++position) {
            const float2 value = values.next();
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                if (!sees(i, position)) continue;
                const float weight = s.weights[place.first_row + place.n_apart * i][position - first];
                out[i].x = fma_f32(weight, value.x, out[i].x);
                out[i].y = fma_f32(weight, value.y, out[i].y);
            }
        }
    }
}

// o of this split for the rows of the thread: row first_row + n_apart * i is out[i].
ESP_FN void weigh_values(const Shared& s, const Pass& pass, const Cache& cache, const Queries& queries, const Place& place,
                         int first, int end, float2 (&out)[kRows]) {
    int visible[kRows];  // of the thread's rows; 0: not there
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const int row = place.first_row + place.n_apart * i;
        visible[i] = row < queries.n_rows() ? queries.visible(row) : 0;
        out[i] = make_float2(0.0f, 0.0f);
    }
    if (place.first_row >= place.n_apart) return;
    int position = max(first, queries.begin(0));
    const int all_begin = min(end, queries.begin(queries.n_rows() - 1));  // the window of every row has begun
    add_values(s, pass, cache, queries, place, first, position, all_begin,
               [&](int i, int at) { return begin_of(visible[i], queries.window) <= at && at < visible[i]; }, out);
    add_values(s, pass, cache, queries, place, first, position, end, [&](int i, int at) { return at < visible[i]; }, out);
}

// m, l and o of one split of the queries; o in registers (weigh_values).
ESP_FN void attend_split(Shared& s, const Pass& pass, const Cache& cache, const Queries& queries, const Place& place, int first,
                         int end, float2 (&out)[kRows]) {
    score_key(s, pass, cache, queries, first, end);
    block_sync();
    softmax_rows(s, queries.n_rows());
    block_sync();
    weigh_values(s, pass, cache, queries, place, first, end, out);
}

// Whether a row sees a key of the split at `first`.
ESP_FN bool sees_split(const Queries& queries, int row, int first) {
    return queries.first_split(row) <= first && first < queries.visible(row);
}

ESP_FN void merge_split(Shared& s, const Queries& queries, const Place& place, int first, const float2 (&out)[kRows]) {
    if (place.first_row < place.n_apart) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const int row = place.first_row + place.n_apart * i;
            if (row >= queries.n_rows() || !sees_split(queries, row, first)) continue;
            float2& merged = reinterpret_cast<float2*>(s.merged[row])[place.pair];
            if (first == queries.first_split(row)) {
                merged = out[i];
            } else {
                const Shares shares = merge_shares(s.merged_m[row], s.merged_l[row], s.m[row], s.l[row]);
                merged = make_float2(merge_value(shares, merged.x, out[i].x), merge_value(shares, merged.y, out[i].y));
            }
        }
    }
    block_sync();
    const int row = threadIdx.x;
    if (row < queries.n_rows() && sees_split(queries, row, first)) {
        const Shares shares = merge_shares(s.merged_m[row], s.merged_l[row], s.m[row], s.l[row]);
        const bool is_first = first == queries.first_split(row);
        s.merged_m[row] = is_first ? s.m[row] : shares.m;
        s.merged_l[row] = is_first ? s.l[row] : shares.l;
    }
    block_sync();
}

ESP_FN void write_outputs(const Shared& s, const Pass& pass, const Cache& cache, const Queries& queries, float* y) {
    for (int i = threadIdx.x; i < queries.n_rows() * cache.head_dim; i += kSplit) {
        const int row = i / cache.head_dim, d = i % cache.head_dim;
        // A padding sequence sees nothing.
        const float value = queries.visible(row) > 0 ? s.merged[row][d] / s.merged_l[row] : 0.0f;
        y[queries.query(row, pass.n_head) * cache.head_dim + d] = value;
    }
    block_sync();
}

// ---- All splits of a few tokens in one block: prefill, and decode where there are sequences enough.
//   q, y float32 [n_tokens, n_head, head_dim]   the rest: Pass, Cache
//   grid (n_head_kv * ceil(group / 8), ceil(n_tokens / tokens_per_block))   block 256
// tokens_per_block = max(1, 8 / group). Bound by the fused multiply-adds of scores and outputs (two a key, query and
// dimension); keys are read once for up to eight queries.
extern "C" __global__ void __launch_bounds__(kSplit) attention(ESP_ATTENTION_PARAMETERS, float* y) {
    __shared__ Shared s;
    const Cache cache = ESP_ATTENTION_CACHE;
    const Pass pass = ESP_ATTENTION_PASS;
    const int tokens_per_block = max(1, kRows / pass.group(cache)), first_head = first_head_of(pass, cache, kRows, blockIdx.x);
    const int last_token = min(pass.n_tokens, int(blockIdx.y + 1) * tokens_per_block);
    const Place place = place_of_thread(cache);
    for (int token = blockIdx.y * tokens_per_block; token < last_token;) {
        const Queries queries = queries_from(pass, cache, token, last_token - token, first_head, kRows);
        load_queries(s, q, pass, cache, queries);
        block_sync();
        const int end = queries.visible(queries.n_rows() - 1);
        for (int first = queries.first_split(0); first < end; first += kSplit) {
            float2 out[kRows];
            attend_split(s, pass, cache, queries, place, first, min(end, first + kSplit), out);
            merge_split(s, queries, place, first, out);
        }
        write_outputs(s, pass, cache, queries, y);
        token += queries.n_tokens;
    }
}

// ---- One split of one token: decode of few sequences. Split 0 is the first that the token sees.
//   m, l float32 [n_tokens, n_head, n_splits]   o float32 [n_tokens, n_head, n_splits, head_dim]
//   grid (n_head_kv * ceil(group / 8), n_splits, n_tokens)   block 256. Bound by latency, then by the reads of keys and values.
extern "C" __global__ void __launch_bounds__(kSplit) attention_split(ESP_ATTENTION_PARAMETERS, float* m, float* l, float* o) {
    __shared__ Shared s;
    const Cache cache = ESP_ATTENTION_CACHE;
    const Pass pass = ESP_ATTENTION_PASS;
    const Queries queries = queries_from(pass, cache, blockIdx.z, 1, first_head_of(pass, cache, kRows, blockIdx.x), kRows);
    const int first = queries.first_split(0) + int(blockIdx.y) * kSplit, end = min(queries.first_visible, first + kSplit);
    if (first >= end) return;  // the whole block
    const Place place = place_of_thread(cache);
    load_queries(s, q, pass, cache, queries);
    block_sync();
    float2 out[kRows];
    attend_split(s, pass, cache, queries, place, first, end, out);
    if (place.first_row < place.n_apart) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const int row = place.first_row + place.n_apart * i;
            if (row >= queries.n_rows()) continue;
            const int64_t at = queries.query(row, pass.n_head) * gridDim.y + blockIdx.y;
            reinterpret_cast<float2*>(o)[at * (cache.head_dim / 2) + place.pair] = out[i];
        }
    }
    if (int(threadIdx.x) < queries.n_rows()) {
        const int64_t at = queries.query(int(threadIdx.x), pass.n_head) * gridDim.y + blockIdx.y;
        m[at] = s.m[threadIdx.x], l[at] = s.l[threadIdx.x];
    }
}

// ---- k, v float32 [n_tokens, n_head_kv, head_dim] into the cache, rounded to its type.  slots int32 [n_tokens]: block * block_size +
// offset, or -1 for a padding sequence, which is not stored.   grid (n_head_kv, n_tokens)   block 128
extern "C" __global__ void __launch_bounds__(128) store_kv(const float* k, const float* v, const int* slots, int n_head_kv,
                                                          int head_dim, int block_size, uint8_t* k_cache, uint8_t* v_cache) {
    const int slot = slots[blockIdx.y];
    if (slot < 0) return;
    const Cache cache{k_cache, v_cache, n_head_kv, head_dim, block_size};
    const int64_t from = (int64_t(blockIdx.y) * n_head_kv + blockIdx.x) * head_dim;
    store_head(cache, slot / block_size, int(blockIdx.x), slot % block_size, k + from, v + from);
}

// ---- rope of q and k, and store_kv, in one launch.  q, q_out [n_tokens, n_head, head_dim]   angles [n_tokens, half, 2]
// k, v, slots and the cache as above   grid (n_head + n_head_kv, n_tokens)   block 128: a head of q, or one of k and v
extern "C" __global__ void __launch_bounds__(128)
    rope_and_store(const float* q, const float* k, const float* v, const float* angles, const int* slots, int n_head, int n_head_kv,
                   int head_dim, int half, int interleaved, int block_size, uint8_t* k_cache, uint8_t* v_cache, float* q_out) {
    __shared__ float rotated[kMaxHeadDim];
    const int token = blockIdx.y, head = int(blockIdx.x) - n_head, slot = slots[token];
    const Rotation rotation{angles + int64_t(token) * half * 2, half, interleaved};
    if (head < 0) {
        const int64_t at = (int64_t(token) * n_head + blockIdx.x) * head_dim;
        rotate_head(q + at, rotation, head_dim, q_out + at);
        return;
    }
    if (slot < 0) return;
    const int64_t at = (int64_t(token) * n_head_kv + head) * head_dim;
    rotate_head(k + at, rotation, head_dim, rotated);
    block_sync();
    const Cache cache{k_cache, v_cache, n_head_kv, head_dim, block_size};
    store_head(cache, slot / block_size, head, slot % block_size, rotated, v + at);
}

}  // namespace espalier
