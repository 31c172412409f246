// Sixteen queries of attention on tensor cores (attention_tensor.cu): which warp has what of them, and their scores for a step
// of 64 keys.
#pragma once

#include "cuda/attention_pass.cuh"
#include "cuda/kv_fragments.cuh"

namespace espalier {

constexpr int kTileRows = 16;
constexpr int kStep = 2 * kRun;
constexpr int kStepTiles = 2 * kRunTiles;
constexpr int kChunks = ESP_HEAD_DIM / kChunkDims;
constexpr float kLog2E = 1.44269504f;

// Which part of a block a warp has: of one tile of rows, dimensions in slabs of 8 * kDimTiles, and key tiles of a step.
template <int n_tiles, int n_tile_warps>
struct Form {
    static constexpr int kTiles = n_tiles, kTileWarps = n_tile_warps, kThreads = 32 * n_tiles * n_tile_warps;
    static constexpr int kDims = ESP_HEAD_DIM / kTileWarps, kDimTiles = kDims < 64 ? kDims / 8 : 8;
    static constexpr int kSlabs = kDims / 8 / kDimTiles;
    static constexpr int kWarpKeyTiles = kStepTiles / kTileWarps;
    static constexpr int kRuns = kWarpKeyTiles > kRunTiles ? 2 : 1, kKeyTiles = kWarpKeyTiles / kRuns;
    static constexpr bool kAsksEarly = kTileWarps > 1 && kSlabs == 1;  // for all keys and values of a step

    static ESP_FN int tile() { return int(threadIdx.x) / 32 / kTileWarps; }
    static ESP_FN int warp() { return int(threadIdx.x) / 32 % kTileWarps; }  // of the tile
    static ESP_FN void sync() {
        if constexpr (kTileWarps > 1) named_sync(1 + tile(), 32 * kTileWarps);
        else warp_sync();
    }
};
using Many = Form<(ESP_HEAD_DIM > 128 ? 2 : 4), (ESP_HEAD_DIM > 128 ? 2 : 1)>;
using Few = Form<1, 4>;

using QueryTile = uint4[kChunks][2][32];  // first operands of 16 rows by lane: high halves, low halves

// A run of keys: its cache block, and the first position in it.
struct Place {
    int block, offset;
};
using Places = Place[kStep / kRun];

// Sixteen rows of a block's queries, as a lane of a warp sees them: its own are g and g + 8. Rows beyond the last are
// computed as zeros and not written.
struct Tile {
    const Pass& pass;
    const Cache& cache;
    Queries queries;
    int first_row, g, t;
    int visible[2];     // the lane's row i sees the last positions before this one, as many as the window has
    int complete, end;  // every row's context reaches to; the last row's

    ESP_FN Tile(const Pass& pass, const Cache& cache, const Queries& queries, int first_row)
        : pass(pass), cache(cache), queries(queries), first_row(first_row), g((threadIdx.x & 31) >> 2), t(threadIdx.x & 3) {
        for (int i = 0; i < 2; ++i) visible[i] = queries.visible(min(row(i), queries.n_rows() - 1));
        complete = queries.visible(first_row);
        end = queries.visible(min(first_row + kTileRows, queries.n_rows()) - 1);
    }
    ESP_FN bool sees(int i, int position) const {
        return position < visible[i] && position + pass.window >= visible[i];
    }
    // The first position that the first row sees, and no other sees an earlier one.
    ESP_FN int first_seen() const { return begin_of(complete, pass.window); }
    ESP_FN int first_split(int i) const { return split_at(begin_of(visible[i], pass.window)); }  // of the lane's row i
    ESP_FN bool sees_split(int i, int first) const { return first_split(i) <= first && first < visible[i]; }
    ESP_FN int row(int i) const { return first_row + g + 8 * i; }
    ESP_FN bool has(int i) const { return row(i) < queries.n_rows(); }
    // Where a run lies; beyond the last visible position, any run that is there.
    ESP_FN Place place(int position) const {
        position = min(position, end - 1) / kRun * kRun;
        const int* const blocks = pass.block_table + int64_t(queries.seq) * pass.max_blocks;
        return {blocks[position / cache.block_size], position % cache.block_size};
    }
};

// x and y as sums of two halves: 22 bits of each.
ESP_FN void split_pair(float x, float y, unsigned& high, unsigned& low) {
    high = pack_f16(x, y);
    low = pack_f16(x - f16_value(uint16_t(high)), y - f16_value(uint16_t(high >> 16)));
}

// The tile's queries times scale, for scores whose power of two is wanted.
template <class Form>
ESP_FN void load_queries(QueryTile& q_tile, const float* q, const Tile& tile) {
    const int lane = threadIdx.x & 31, head_dim = tile.cache.head_dim;
    const float scale = tile.pass.scale * kLog2E;
    for (int chunk = Form::warp(); chunk < head_dim / kChunkDims; chunk += Form::kTileWarps) {
        unsigned high[4], low[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float2 pair = make_float2(0.0f, 0.0f);
            if (tile.has(i % 2)) {
                const float* row = q + tile.queries.query(tile.row(i % 2), tile.pass.n_head) * head_dim;
                pair = *reinterpret_cast<const float2*>(row + kChunkDims * chunk + 8 * (i / 2) + 2 * tile.t);
            }
            split_pair(pair.x * scale, pair.y * scale, high[i], low[i]);
        }
        q_tile[chunk][0][lane] = make_uint4(high[0], high[1], high[2], high[3]);
        q_tile[chunk][1][lane] = make_uint4(low[0], low[1], low[2], low[3]);
    }
}

// d += a [16 x 16] of two halves times n tiles b.
template <int n>
ESP_FN void multiply_tiles(float (*d)[4], const unsigned (&high)[4], const unsigned (&low)[4], const unsigned (&b)[n][2]) {
#pragma unroll
    for (int i = 0; i < n; ++i) mma_f16(d[i], high, b[i]);
#pragma unroll
    for (int i = 0; i < n; ++i) mma_f16(d[i], low, b[i]);
}

// Keys of a step that a warp has asked for and not multiplied yet, by chunks of dimensions, and their scales: all of them, or
// those of two chunks, the second of which is asked for before the first is multiplied.
template <class Form>
struct AskedKeys {
    using Run = KeyRun<Form::kKeyTiles>;
    static constexpr int kScaleChunks = kKvScaleDims / kChunkDims, kAhead = Form::kAsksEarly ? kChunks : kScaleChunks;
    typename Run::Keys keys[kAhead][Form::kRuns][2];
    typename Run::Scales scales[kAhead / kScaleChunks][Form::kRuns];

    // Chunks beyond the last are that one again.
    ESP_FN void ask(const Run (&runs)[Form::kRuns], int chunk, int n_chunks, int t, typename Run::Keys (&to)[Form::kRuns][2]) {
        chunk = min(chunk, n_chunks - 1);
#pragma unroll
        for (int run = 0; run < Form::kRuns; ++run) {
            runs[run].load(8 * chunk + t, to[run][0]);
            runs[run].load(8 * chunk + 4 + t, to[run][1]);
        }
    }
    ESP_FN void ask_scales(const Run (&runs)[Form::kRuns], int first_chunk, int n_chunks) {
        if constexpr (kKeysAreScaled) {
#pragma unroll
            for (int i = 0; i < kAhead / kScaleChunks; ++i)
#pragma unroll
                for (int run = 0; run < Form::kRuns; ++run)
                    runs[run].load_scales(min(first_chunk / kScaleChunks + i, (n_chunks - 1) / kScaleChunks), scales[i][run]);
        }
    }
    // What a step begins with.
    ESP_FN void begin(const Run (&runs)[Form::kRuns], int n_chunks, int t) {
        ask_scales(runs, 0, n_chunks);
#pragma unroll
        for (int i = 0; i < (Form::kAsksEarly ? kAhead : 1); ++i) ask(runs, i, n_chunks, t, keys[i]);
    }
};

// s += scores of the tiles that this warp has of a step; `asked` has begun.
template <class Form>
ESP_FN void score_keys(const QueryTile& q_tile, const KeyRun<Form::kKeyTiles> (&runs)[Form::kRuns], int n_chunks, int t,
                       AskedKeys<Form>& asked, float (&s)[Form::kWarpKeyTiles][4]) {
    using Asked = AskedKeys<Form>;
    constexpr int kTiles = Form::kKeyTiles, kAhead = Asked::kAhead;
    const int lane = threadIdx.x & 31;
#pragma unroll 1
    for (int first = 0; first < n_chunks; first += kAhead) {
        if (!Form::kAsksEarly && first > 0) asked.ask_scales(runs, first, n_chunks);
        float part[Form::kWarpKeyTiles][4] = {};  // of dimensions that share a scale
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            const int chunk = first + i;
            if constexpr (!Form::kAsksEarly) asked.ask(runs, chunk + 1, n_chunks, t, asked.keys[(i + 1) % kAhead]);
            if (chunk < n_chunks) {
                unsigned high[4], low[4];
                load_words(&q_tile[chunk][0][lane], high);
                load_words(&q_tile[chunk][1][lane], low);
#pragma unroll
                for (int run = 0; run < Form::kRuns; ++run) {
                    unsigned b[kTiles][2];
#pragma unroll
                    for (int tile = 0; tile < kTiles; ++tile)
                        for (int half = 0; half < 2; ++half) b[tile][half] = asked.keys[i][run][half].of_tile(tile);
                    multiply_tiles(&(kKeysAreScaled ? part : s)[run * kTiles], high, low, b);
                }
            }
            if constexpr (kKeysAreScaled) {
                if (i % Asked::kScaleChunks != Asked::kScaleChunks - 1) continue;
                const bool is_there = chunk - i % Asked::kScaleChunks < n_chunks;
#pragma unroll
                for (int n = 0; n < 4 * Form::kWarpKeyTiles; ++n) {
                    const int tile = n / 4, d = n % 4;
                    const float scale = asked.scales[i / Asked::kScaleChunks][tile / kTiles].of_column(tile % kTiles, d % 2);
                    if (is_there) s[tile][d] = fma_f32(part[tile][d], scale, s[tile][d]);
                    part[tile][d] = 0.0f;
                }
            }
        }
    }
}

using Scores = float4[kStepTiles][32];  // of a step, by key tile and lane

// The runs of a step that the warp has keys of.
template <class Form>
struct Runs {
    KeyRun<Form::kKeyTiles> runs[Form::kRuns];
};

template <class Form>
ESP_FN Runs<Form> runs_of(const Tile& tile, const Places& places) {
    const int first_tile = Form::kWarpKeyTiles * Form::warp();
    const auto run = [&](const Place& place) {
        return KeyRun<Form::kKeyTiles>(tile.cache, place.block, tile.queries.head_kv, place.offset, first_tile % kRunTiles,
                                       tile.g, tile.t);
    };
    if constexpr (Form::kRuns == 2) return {{run(places[0]), run(places[1])}};
    else return {{run(first_tile < kRunTiles ? places[0] : places[1])}};
}

// The scores of a step's 64 keys, from those of the tile's warps. They have two places to exchange them in, for even and
// odd steps: no warp writes one again before all have read it.
template <class Form>
ESP_FN void exchange_scores(const float (&part)[Form::kWarpKeyTiles][4], int first, Scores* exchanged,
                            float (&s)[kStepTiles][4]) {
    constexpr int kTiles = Form::kWarpKeyTiles;
    if constexpr (Form::kTileWarps > 1) {
        const int lane = threadIdx.x & 31;
        const int first_tile = kTiles * Form::warp();
        Scores& scores = exchanged[first / kStep % 2];
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
            scores[first_tile + i][lane] = make_float4(part[i][0], part[i][1], part[i][2], part[i][3]);
        Form::sync();
#pragma unroll
        for (int i = 0; i < kStepTiles; ++i) {
            const float4 of_tile = scores[i][lane];
            s[i][0] = of_tile.x, s[i][1] = of_tile.y, s[i][2] = of_tile.z, s[i][3] = of_tile.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4 * kStepTiles; ++i) s[i / 4][i % 4] = part[i / 4][i % 4];
    }
}

}  // namespace espalier
