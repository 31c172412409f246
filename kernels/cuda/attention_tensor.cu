// Causal attention over the paged cache on the f16 tensor cores: `--attention tensor`. Not the CPU's bits, but always the same:
// a query's result depends neither on its company nor on the launch.
//   q, y float32 [n_tokens, n_head, head_dim], head_dim a multiple of 16 up to ESP_HEAD_DIM (64, 128 or 256)
//   m, l float32 [n_tokens, n_head, n_splits]   o float32 [n_tokens, n_head, n_splits, head_dim]   the rest: Pass, Cache
//   block_size is a multiple of 32
//   grid (n_head_kv * ceil(group / rows of a block), blocks of tokens, n_splits or 1)   block 128
// Where the grid is n_splits deep, a block leaves m, l and o of its split for attention_merge (attention.cu), which counts
// a query's splits from the first that it sees; one deep, it walks over all splits and merges them in y, and m, l and o
// are null.
//
// A row is one head of one token. Sixteen rows of one KV head and sequence are a tile: rows of the tensor cores' products.
// A step is 64 positions: scores; the largest so far, by which the sums so far are scaled down; weights, exp(score -
// largest); sums of weights times values. Queries, weights and values of q8_0 go in as the sum of two halves, 22 bits of
// each, so that f16 costs no accuracy. The sum of the weights is one more column of the product, of ones. A query times
// scale * log2(e), and a value, from 65520 on counts as infinite; an output that is not finite may be NaN or infinite.
//
//   attention_many   a warp for each of four tiles; heads above 128: two warps for each of two tiles. Prefill.
//   attention_few    four warps for one tile. Decode.
// The warps of a tile share a step's keys, exchange the scores, and share the dimensions of the sums. The arithmetic is the
// same however many they are, so a launch may take either. attention_many is bound by the tensor cores and the
// instructions between the products, attention_few by latency, then by the reads of keys and values.
#include "cuda/attention_sums.cuh"

namespace espalier {

// Calls use(i, dim, values) for each of the lane's rows i that sees a position from `first` on and each four of its dimensions.
// A sum of nothing but zeros is +0, however many steps that a row does not see came after it.
template <class Form, class Use>
ESP_FN void for_each_sum(const Tile& tile, int first, const Sums<Form>& sums, const Use& use) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        if (!tile.has(i) || !tile.sees_split(i, first)) continue;
#pragma unroll
        for (int slab = 0; slab < Form::kSlabs; ++slab) {
            const int dim = slab_dim<Form>(slab) + 2 * Form::kDimTiles * tile.t;
            if (dim >= tile.cache.head_dim) continue;
#pragma unroll
            for (int d = 0; d < 2 * Form::kDimTiles; d += 4) {
                float four[4];
#pragma unroll
                for (int n = 0; n < 4; ++n) {
                    const int tile_of_dim = (d + n) % Form::kDimTiles, column = (d + n) / Form::kDimTiles;
                    four[n] = sums.o[slab][tile_of_dim][2 * i + column] + 0.0f;
                }
                use(i, dim + d, make_float4(four[0], four[1], four[2], four[3]));
            }
        }
    }
}

// What was merged of a lane's rows before this split.
struct Merged {
    float m[2], l[2];
};

// The split at `first` joins what y holds of the earlier ones, as attention_merge would do it; after the last, y is the result.
template <class Form>
ESP_FN void merge_split(const Tile& tile, int first, const Sums<Form>& sums, Merged& merged, float* y) {
    Shares shares[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        if (first <= tile.first_split(i)) shares[i] = {0.0f, 1.0f, sums.merged_m(i), sums.merged_l(i)};
        else shares[i] = merge_shares(merged.m[i], merged.l[i], sums.merged_m(i), sums.merged_l(i));
        merged.m[i] = shares[i].m, merged.l[i] = shares[i].l;
    }
    for_each_sum(tile, first, sums, [&](int i, int dim, float4 value) {
        float* const row = y + tile.queries.query(tile.row(i), tile.pass.n_head) * tile.cache.head_dim;
        float4& out = *reinterpret_cast<float4*>(row + dim);
        if (first > tile.first_split(i)) {
            value.x = merge_value(shares[i], out.x, value.x), value.y = merge_value(shares[i], out.y, value.y);
            value.z = merge_value(shares[i], out.z, value.z), value.w = merge_value(shares[i], out.w, value.w);
        }
        if (tile.visible[i] <= first + kSplit) {
            const float l = merged.l[i];
            value = make_float4(value.x / l, value.y / l, value.z / l, value.w / l);
        }
        out = value;
    });
}

// The split of blockIdx.z for attention_merge.
template <class Form>
ESP_FN void write_split(const Tile& tile, int first, const Sums<Form>& sums, float* m, float* l, float* o) {
    const auto at = [&](int i) {
        const int split = (first - tile.first_split(i)) / kSplit;
        return tile.queries.query(tile.row(i), tile.pass.n_head) * gridDim.z + split;
    };
    for_each_sum(tile, first, sums, [&](int i, int dim, float4 value) {
        *reinterpret_cast<float4*>(o + at(i) * tile.cache.head_dim + dim) = value;
    });
    if (tile.t != 0 || Form::warp() != 0) return;
    for (int i = 0; i < 2; ++i)
        if (tile.has(i) && tile.sees_split(i, first)) m[at(i)] = sums.merged_m(i), l[at(i)] = sums.merged_l(i);
}

// A padding sequence sees nothing: zeros.
ESP_FN void write_zeros(const Tile& tile, float* y) {
    const int head_dim = tile.cache.head_dim;
    for (int i = 0; i < 2; ++i) {
        if (!tile.has(i)) continue;
        float* const row = y + tile.queries.query(tile.row(i), tile.pass.n_head) * head_dim;
        for (int dim = tile.t; dim < head_dim; dim += 4) row[dim] = 0.0f;
    }
}

// The queries of block `index` of at most tokens_per_block tokens of one sequence; none where there is no such block.
ESP_FN Queries queries_of_block(const Pass& pass, const Cache& cache, int index, int tokens_per_block, int first_head,
                                int n_rows) {
    if (tokens_per_block == 1) return queries_from(pass, cache, index, 1, first_head, n_rows);
    for (int seq = 0; seq < pass.n_seqs; ++seq) {
        const int start = pass.query_start[seq], n_tokens = pass.query_start[seq + 1] - start;
        const int n_blocks = (n_tokens + tokens_per_block - 1) / tokens_per_block;
        if (index < n_blocks)
            return queries_of(pass, cache, seq, start + index * tokens_per_block, tokens_per_block, first_head, n_rows);
        index -= n_blocks;
    }
    return {};
}

#define ESP_TENSOR_PARAMETERS ESP_ATTENTION_PARAMETERS, int tokens_per_block, float *m, float *l, float *o, float *y
#define ESP_TENSOR_ARGUMENTS                                                                                           \
    q, k, v, query_start, context_lens, block_table, n_seqs, max_blocks, n_tokens, n_head, n_head_kv, head_dim,        \
        block_size, scale, window, tokens_per_block, m, l, o, y

template <class Form>
ESP_FN void attend(ESP_TENSOR_PARAMETERS) {
    __shared__ QueryTile q_tiles[Form::kTiles];
    __shared__ Scores exchanged[Form::kTileWarps > 1 ? Form::kTiles : 1][2];
    constexpr int kRows = kTileRows * Form::kTiles;
    const Cache cache = ESP_ATTENTION_CACHE;
    const Pass pass = ESP_ATTENTION_PASS;
    const int index = gridDim.y - 1 - blockIdx.y;  // blocks with the most keys begin first
    const Queries queries =
        queries_of_block(pass, cache, index, tokens_per_block, first_head_of(pass, cache, kRows, blockIdx.x), kRows);
    const int first_row = kTileRows * Form::tile();
    if (first_row >= queries.n_rows()) return;  // all warps of the tile
    const Tile tile(pass, cache, queries, first_row);
    QueryTile& q_tile = q_tiles[Form::tile()];
    Scores* const of_tile = exchanged[Form::kTileWarps > 1 ? Form::tile() : 0];
    load_queries<Form>(q_tile, q, tile);
    Form::sync();
    const bool is_one_split = gridDim.z > 1;
    if (tile.end <= 0 && !is_one_split) write_zeros(tile, y);
    const int begin = split_at(tile.first_seen()) + (is_one_split ? kSplit * int(blockIdx.z) : 0);
    const int end = is_one_split ? min(tile.end, begin + kSplit) : tile.end;
    Merged merged{};
    for (int first = begin; first < end; first += kSplit) {
        Sums<Form> sums;
        attend_split<Form>(q_tile, tile, first, min(end, first + kSplit), of_tile, sums);
        if (is_one_split) write_split(tile, first, sums, m, l, o);
        else merge_split(tile, first, sums, merged, y);
    }
}

// block 128
extern "C" __global__ void __launch_bounds__(Many::kThreads, 2) attention_many(ESP_TENSOR_PARAMETERS) {
    attend<Many>(ESP_TENSOR_ARGUMENTS);
}

// block 128
extern "C" __global__ void __launch_bounds__(Few::kThreads, ESP_HEAD_DIM > 64 ? 2 : 3) attention_few(ESP_TENSOR_PARAMETERS) {
    attend<Few>(ESP_TENSOR_ARGUMENTS);
}

}  // namespace espalier
