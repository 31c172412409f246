// Causal attention over paged latents (multi-head latent attention, absorbed form): all heads score the same rows, and the
// first value_width numbers of a row are its value. Bit for bit the CPU backend's (kernels/cpu/latent_attention.h), whose
// sums are those of attention.cu: scores sum numbers ascending, outputs sum positions ascending, splits of 256 positions
// merge in order. Zeros beyond the width of a row and of a query change no sum.
//
// A block has 128 threads and one token's heads, up to kHeads of them, or up to kFewHeads where a launch would leave most
// of the card idle. For each split the rows come through shared memory once, 32 numbers of 256 rows at a time and the next 32
// on their way meanwhile; a thread scores eight heads with four rows (four heads with two). Then a thread has four numbers of
// the outputs of all heads and reads the values from the second-level cache. Bound by float32 multiply-adds from some eight
// heads on: 1088 a head and position (576 + 512) for 1152 bytes of a row.
//   q float32 [n_tokens, n_head, width]   y float32 [n_tokens, n_head, value_width]   the rest: Pass, LatentCache
#include "cuda/attention_merge.cuh"
#include "cuda/latent_cache.cuh"

namespace espalier {

constexpr int kThreads = 128;
constexpr int kHeads = 16, kFewHeads = 4;  // of a block (kernels/cuda/latent_ops.py)
constexpr int kChunk = kKvScaleDims;       // numbers of a row that are scored at a time
constexpr int kPieceBytes = 16;
constexpr int kRowPieces = kChunk * kLatentBytes / kPieceBytes, kPieceNumbers = kPieceBytes / kLatentBytes;
constexpr int kOdd = kRowPieces + 1;  // pieces from row to row: an odd number, so that neighbouring rows meet in no bank

using RowChunks = uint4[kSplit][kOdd];

struct Shared {
    union {
        RowChunks chunks[2];               // of even and odd chunks
        float weights[kHeads][kSplit];     // scores, then exp(score - m), once the chunks are scored
    };
    alignas(16) float q[2][kHeads][kChunk];  // scaled, of even and odd chunks
    LatentRow rows[kSplit];
    float m[kHeads], l[kHeads], merged_m[kHeads], merged_l[kHeads];
    Shares shares[kHeads];
};

// What a block computes: heads of one token.
struct Item {
    const int* block_ids;
    int64_t first_query;  // token * n_head + head
    int n_heads;
    int visible;  // positions that the token sees
};

ESP_FN Item item_of(const Pass& pass, int token, int group, int heads_per_block) {
    const int seq = sequence_of(pass, token), first_head = group * heads_per_block;
    return {pass.block_table + int64_t(seq) * pass.max_blocks, int64_t(token) * pass.n_head + first_head,
            min(heads_per_block, pass.n_head - first_head),
            pass.context_lens[seq] - (pass.query_start[seq + 1] - 1 - token)};
}

ESP_FN void find_rows(Shared& s, const LatentCache& cache, const Item& item, int first, int n_rows) {
    for (int i = threadIdx.x; i < n_rows; i += kThreads) {
        const int position = first + i;
        s.rows[i] = cache.row(item.block_ids[position / cache.block_size], position % cache.block_size);
    }
}

// Asks for numbers [dim, dim + n) of the rows.
ESP_FN void ask_chunk(const Shared& s, RowChunks& to, int n_rows, int dim, int n) {
    for (int i = threadIdx.x; i < n_rows * kRowPieces; i += kThreads) {
        const int row = i / kRowPieces, piece = i % kRowPieces;
        if (piece * kPieceNumbers < n)
            cp_async<kPieceBytes>(&to[row][piece], s.rows[row].numbers + kLatentBytes * dim + kPieceBytes * piece);
    }
}

// How the threads share the scores of n_heads heads with 256 rows: a thread has every kApart-th row from `row` on.
template <int n_heads>
struct ScoreTile {
    static constexpr int kTileHeads = n_heads < 8 ? n_heads : 8;
    static constexpr int kApart = kThreads * kTileHeads / n_heads, kRows = kSplit / kApart;
    static constexpr int kQueryNumbers = n_heads * kChunk / kThreads;  // that a thread brings of a chunk
    float sums[kTileHeads][kRows];

    static ESP_FN int first_head() { return int(threadIdx.x) / kApart * kTileHeads; }
    static ESP_FN int row(int i) { return int(threadIdx.x) % kApart + kApart * i; }
};

template <int n_heads>
ESP_FN void load_query(const float* q, const LatentCache& cache, const Item& item, float scale, int dim,
                       float (&numbers)[ScoreTile<n_heads>::kQueryNumbers]) {
#pragma unroll
    for (int i = 0; i < ScoreTile<n_heads>::kQueryNumbers; ++i) {
        const int at = threadIdx.x + kThreads * i, head = at / kChunk, d = dim + at % kChunk;
        const bool is_there = head < item.n_heads && d < cache.width;
        numbers[i] = is_there ? q[(item.first_query + head) * cache.width + d] * scale : 0.0f;
    }
}

template <int n_heads>
ESP_FN void store_query(const float (&numbers)[ScoreTile<n_heads>::kQueryNumbers], float (&to)[kHeads][kChunk]) {
#pragma unroll
    for (int i = 0; i < ScoreTile<n_heads>::kQueryNumbers; ++i) {
        const int at = threadIdx.x + kThreads * i;
        to[at / kChunk][at % kChunk] = numbers[i];
    }
}

// Four of a piece's numbers; scale: of q8_0.
ESP_FN float4 numbers_of(const uint4& piece, int four, float scale) {
    const unsigned words[4] = {piece.x, piece.y, piece.z, piece.w};
#ifdef ESP_KV_Q8
    const float2 low = scaled_pair(uint16_t(words[four]), scale), high = scaled_pair(uint16_t(words[four] >> 16), scale);
#else
    const float2 low = f16_pair(words[2 * four]), high = f16_pair(words[2 * four + 1]);
    (void)scale;
#endif
    return make_float4(low.x, low.y, high.x, high.y);
}

template <int n_heads>
ESP_FN void score_chunk(ScoreTile<n_heads>& tile, const RowChunks& chunk, const float (&q)[kHeads][kChunk],
                        const float (&scales)[ScoreTile<n_heads>::kRows], int n) {
    using Tile = ScoreTile<n_heads>;
#pragma unroll 1
    for (int piece = 0; piece * kPieceNumbers < n; ++piece) {
        uint4 asked[Tile::kRows];
#pragma unroll
        for (int i = 0; i < Tile::kRows; ++i) asked[i] = chunk[Tile::row(i)][piece];
#pragma unroll
        for (int four = 0; four < kPieceNumbers / 4; ++four) {
            float4 keys[Tile::kRows];
#pragma unroll
            for (int i = 0; i < Tile::kRows; ++i) keys[i] = numbers_of(asked[i], four, scales[i]);
#pragma unroll
            for (int h = 0; h < Tile::kTileHeads; ++h) {
                const float4 query =
                    *reinterpret_cast<const float4*>(&q[Tile::first_head() + h][piece * kPieceNumbers + 4 * four]);
#pragma unroll
                for (int i = 0; i < Tile::kRows; ++i) {
                    float& sum = tile.sums[h][i];
                    sum = fma_f32(query.x, keys[i].x, sum);
                    sum = fma_f32(query.y, keys[i].y, sum);
                    sum = fma_f32(query.z, keys[i].z, sum);
                    sum = fma_f32(query.w, keys[i].w, sum);
                }
            }
        }
    }
}

// The scales of the thread's rows of a chunk, 1 where there are none.
template <int n_heads>
ESP_FN void load_scales(const Shared& s, int n_rows, int chunk, float (&scales)[ScoreTile<n_heads>::kRows]) {
#pragma unroll
    for (int i = 0; i < ScoreTile<n_heads>::kRows; ++i) {
        scales[i] = 1.0f;
#ifdef ESP_KV_Q8
        const int row = ScoreTile<n_heads>::row(i);
        if (row < n_rows) scales[i] = f16_value(s.rows[row].scales[chunk]);
#else
        (void)s, (void)n_rows, (void)chunk;
#endif
    }
}

// The scores of the split's rows, in s.weights; minus infinity beyond them.
template <int n_heads>
ESP_FN void score_rows(Shared& s, const float* q, const LatentCache& cache, const Item& item, float scale, int n_rows) {
    using Tile = ScoreTile<n_heads>;
    const int stride = cache.stride(), n_chunks = (stride + kChunk - 1) / kChunk;
    Tile tile{};
    float query[Tile::kQueryNumbers], scales[Tile::kRows], next_scales[Tile::kRows];
    ask_chunk(s, s.chunks[0], n_rows, 0, min(kChunk, stride));
    cp_async_commit();
    load_query<n_heads>(q, cache, item, scale, 0, query);
    store_query<n_heads>(query, s.q[0]);
    load_scales<n_heads>(s, n_rows, 0, next_scales);
#pragma unroll 1
    for (int chunk = 0; chunk < n_chunks; ++chunk) {
        const int next = kChunk * (chunk + 1);
        const bool has_next = next < stride;
#pragma unroll
        for (int i = 0; i < Tile::kRows; ++i) scales[i] = next_scales[i];
        if (has_next) {
            ask_chunk(s, s.chunks[(chunk + 1) % 2], n_rows, next, min(kChunk, stride - next));
            load_query<n_heads>(q, cache, item, scale, next, query);
            load_scales<n_heads>(s, n_rows, chunk + 1, next_scales);
        }
        cp_async_commit();
        cp_async_wait<1>();
        block_sync();
        score_chunk<n_heads>(tile, s.chunks[chunk % 2], s.q[chunk % 2], scales, min(kChunk, stride - kChunk * chunk));
        if (has_next) store_query<n_heads>(query, s.q[(chunk + 1) % 2]);
        block_sync();
    }
#pragma unroll
    for (int h = 0; h < Tile::kTileHeads; ++h)
#pragma unroll
        for (int i = 0; i < Tile::kRows; ++i) {
            const int row = Tile::row(i);
            s.weights[Tile::first_head() + h][row] = row < n_rows ? tile.sums[h][i] : float_from_bits(0xFF800000u);
        }
}

ESP_FN void add_value(float weight, const float4& value, float4& sum) {
    sum.x = fma_f32(weight, value.x, sum.x), sum.y = fma_f32(weight, value.y, sum.y);
    sum.z = fma_f32(weight, value.z, sum.z), sum.w = fma_f32(weight, value.w, sum.w);
}

// Calls use(o, head, to) for each number of the split's o and its place: to + head * step + its dimension. Four rows are asked for while the four before them are
// weighed; rows beyond the last are never multiplied: a weight of zero would let a NaN through.
template <int n_heads, class Use>
ESP_FN void weigh_rows(const Shared& s, int value_width, int n_heads_there, int n_rows, float* to, int64_t step, const Use& use) {
    const int n_fours = n_rows / 4 * 4;
#pragma unroll 1
    for (int dim = 4 * int(threadIdx.x); dim < value_width; dim += 4 * kThreads) {
        float4 sums[n_heads];
#pragma unroll
        for (int h = 0; h < n_heads; ++h) sums[h] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        FourLatents asked[4];
        const auto ask = [&](int first) {
#pragma unroll
            for (int i = 0; i < 4; ++i) asked[i] = FourLatents(s.rows[first + i], dim);
        };
        if (n_fours > 0) ask(0);
#pragma unroll 1
        for (int first = 0; first < n_fours; first += 4) {
            float4 values[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) values[i] = asked[i].values();
            if (first + 4 < n_fours) ask(first + 4);
#pragma unroll
            for (int h = 0; h < n_heads; ++h) {
                const float4 weights = *reinterpret_cast<const float4*>(&s.weights[h][first]);
                add_value(weights.x, values[0], sums[h]), add_value(weights.y, values[1], sums[h]);
                add_value(weights.z, values[2], sums[h]), add_value(weights.w, values[3], sums[h]);
            }
        }
#pragma unroll 1
        for (int row = n_fours; row < n_rows; ++row) {
            const float4 value = FourLatents(s.rows[row], dim).values();
#pragma unroll
            for (int h = 0; h < n_heads; ++h) add_value(s.weights[h][row], value, sums[h]);
        }
        float* at = to + dim;
#pragma unroll
        for (int h = 0; h < n_heads; ++h, at += step) {
            const float numbers[4] = {sums[h].x, sums[h].y, sums[h].z, sums[h].w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (h < n_heads_there && dim + i < value_width) use(numbers[i], h, at + i);
        }
    }
}

// Weights, m and l of the split at `first`; every thread has them when it returns.
template <int n_heads>
ESP_FN void weights_of_split(Shared& s, const float* q, const LatentCache& cache, const Item& item, float scale, int first,
                             int n_rows) {
    find_rows(s, cache, item, first, n_rows);
    block_sync();
    score_rows<n_heads>(s, q, cache, item, scale, n_rows);
    block_sync();
    for (int head = threadIdx.x >> 5; head < item.n_heads; head += kThreads / 32)
        softmax_row(s.weights[head], s.m[head], s.l[head]);
    block_sync();
}

// How the splits so far and this one are added; before the outputs are.
ESP_FN void merge_heads(Shared& s, const Item& item, bool is_first) {
    const int head = threadIdx.x;
    if (head < item.n_heads) {
        const Shares shares = merge_shares(s.merged_m[head], s.merged_l[head], s.m[head], s.l[head]);
        s.shares[head] = shares;
        s.merged_m[head] = is_first ? s.m[head] : shares.m;
        s.merged_l[head] = is_first ? s.l[head] : shares.l;
    }
    block_sync();
}

template <int n_heads>
ESP_FN void walk_splits(Shared& s, const float* q, const LatentCache& cache, const Item& item, float scale, int value_width,
                        float* y) {
    y += item.first_query * value_width;
    if (item.visible <= 0)  // a padding sequence
        for (int i = threadIdx.x; i < item.n_heads * value_width; i += kThreads) y[i] = 0.0f;
#pragma unroll 1
    for (int first = 0; first < item.visible; first += kSplit) {
        const int n_rows = min(kSplit, item.visible - first);
        const bool is_last = first + kSplit >= item.visible;
        weights_of_split<n_heads>(s, q, cache, item, scale, first, n_rows);
        merge_heads(s, item, first == 0);
        weigh_rows<n_heads>(s, value_width, item.n_heads, n_rows, y, value_width, [&](float value, int head, float* out) {
            if (first > 0) value = merge_value(s.shares[head], load_fresh(out), value);  // one by one: few registers
            *out = is_last ? value / s.merged_l[head] : value;
        });
        block_sync();
    }
}

#define ESP_LATENT_PARAMETERS                                                                                        \
    const float *q, uint8_t *blocks, const int *query_start, const int *context_lens, const int *block_table,       \
        int n_seqs, int max_blocks, int n_head, int width, int value_width, int block_size, float scale,             \
        int heads_per_block
#define ESP_LATENT_PASS \
    Pass { query_start, context_lens, block_table, n_seqs, max_blocks, 0, n_head, scale, 0 }

// ---- All splits of one token in one block, merged in y: prefill, and decode where there are sequences enough.
//   grid (ceil(n_head / heads_per_block), n_tokens)   block 128
extern "C" __global__ void __launch_bounds__(kThreads, 3) latent_attention(ESP_LATENT_PARAMETERS, float* y) {
    __shared__ Shared s;
    const LatentCache cache{blocks, width, block_size};
    const Item item = item_of(ESP_LATENT_PASS, blockIdx.y, blockIdx.x, heads_per_block);
    if (item.n_heads <= kFewHeads) walk_splits<kFewHeads>(s, q, cache, item, scale, value_width, y);
    else walk_splits<kHeads>(s, q, cache, item, scale, value_width, y);
}

template <int n_heads>
ESP_FN void write_split(Shared& s, const float* q, const LatentCache& cache, const Item& item, float scale, int value_width,
                        float* m, float* l, float* o) {
    const int first = int(blockIdx.y) * kSplit, n_rows = min(kSplit, item.visible - first), n_splits = gridDim.y;
    weights_of_split<n_heads>(s, q, cache, item, scale, first, n_rows);
    const int64_t at = item.first_query * n_splits + blockIdx.y;  // of the first head
    if (int(threadIdx.x) < item.n_heads) {
        m[at + threadIdx.x * n_splits] = s.m[threadIdx.x];
        l[at + threadIdx.x * n_splits] = s.l[threadIdx.x];
    }
    weigh_rows<n_heads>(s, value_width, item.n_heads, n_rows, o + at * value_width, int64_t(n_splits) * value_width,
                        [](float value, int, float* out) { *out = value; });
}

// ---- One split of one token, for attention_merge: decode of few sequences.
//   m, l float32 [n_tokens, n_head, n_splits]   o float32 [n_tokens, n_head, n_splits, value_width]
//   grid (ceil(n_head / heads_per_block), n_splits, n_tokens)   block 128
extern "C" __global__ void __launch_bounds__(kThreads, 3) latent_split(ESP_LATENT_PARAMETERS, float* m, float* l, float* o) {
    __shared__ Shared s;
    const LatentCache cache{blocks, width, block_size};
    const Item item = item_of(ESP_LATENT_PASS, blockIdx.z, blockIdx.x, heads_per_block);
    if (int(blockIdx.y) * kSplit >= item.visible) return;  // the whole block
    if (item.n_heads <= kFewHeads) write_split<kFewHeads>(s, q, cache, item, scale, value_width, m, l, o);
    else write_split<kHeads>(s, q, cache, item, scale, value_width, m, l, o);
}

// ---- rows float32 [n_tokens, width] into the cache, rounded to its type.  slots int32 [n_tokens]: block * block_size + offset, or
// -1 for a padding sequence, which is not stored.   grid n_tokens   block 128
extern "C" __global__ void __launch_bounds__(kThreads) store_latent(const float* rows, const int* slots, int width, int block_size,
                                                                   uint8_t* blocks) {
    const int slot = slots[blockIdx.x];
    if (slot < 0) return;
    const LatentCache cache{blocks, width, block_size};
    store_row(cache, cache.row(slot / block_size, slot % block_size), rows + int64_t(blockIdx.x) * width);
}

}  // namespace espalier
