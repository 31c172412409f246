// Matmul: Y = X W^T for several tokens. Tiles are decoded once to u8 panels in this thread's scratch (in cache), then
// multiplied with groups of tokens ("columns"). K is walked chain by chain, so that for each column one float chain
// and its integer accumulators stay in registers: 16 rows x kColumnGroup columns.
//   panel, one 32-block: u8 vectors [8] (3INST: high bytes, then low bytes [8]), integer scales, s, dmin and minimums
// Bound: vpdpbusd throughput; per block and column 8 of them and 3 float instructions.
#pragma once

#include "cpu/linear_matvec.h"

namespace espalier::ESPALIER_TIER {

// Byte offsets inside a panel's 32-block.
template <class E>
struct Panel {
    static constexpr int kScale = 512 * E::kPlanes;
    static constexpr int kS = kScale + (E::kIntScale ? 64 * E::kHalves : 0);
    static constexpr int kMinusDmin = kS + 64;
    static constexpr int kMin = kMinusDmin + (E::kMin ? 64 : 0);
    static constexpr int kBytes = kMin + (E::kMin ? 64 * E::kHalves : 0);
};

template <class E>
static inline void store_block(const DecodedBlock& w, uint8_t* panel) {
    using P = Panel<E>;
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
        store_bytes(panel + 64 * v, w.w[v]);
        if constexpr (E::kPlanes == 2) store_bytes(panel + 512 + 64 * v, w.w_low[v]);
    }
    if constexpr (E::kIntScale) store_bytes(panel + P::kScale, w.scale[0]);
    if constexpr (E::kHalves == 2) store_bytes(panel + P::kScale + 64, w.scale[1]);
    store(reinterpret_cast<float*>(panel + P::kS), w.s);
    if constexpr (E::kMin) {
        store(reinterpret_cast<float*>(panel + P::kMinusDmin), w.minus_dmin);
        store(reinterpret_cast<float*>(panel + P::kMin), to_float(w.min[0]));
        if constexpr (E::kHalves == 2) store(reinterpret_cast<float*>(panel + P::kMin + 64), to_float(w.min[1]));
    }
}

// All of a tile's blocks, in chain order.
template <class T>
static void decode_panel(const uint8_t* tile, int64_t n_blocks, uint8_t* panel) {
    constexpr int kUnit = Tile<T>::kUnitBlocks, kBlockBytes = Tile<T>::kUnitBytes / kUnit;
    const TileView t = view_tile<T>(tile, n_blocks);
    const ChainOrder order = chain_order(n_blocks);
    for (int64_t b = 0; b < n_blocks; ++b) {
        for (int line = 0; line < kBlockBytes; line += 64) prefetch(t.body + b * kBlockBytes + line + kPrefetchBytes);
        DecodedBlock w;
        decode(T{}, t, b / kUnit, static_cast<int>(b % kUnit), w);
        store_block<Entry<T>>(w, panel + chain_position(order, b) * Panel<Entry<T>>::kBytes);
    }
}

static inline F32 load_float_lanes(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }

// The minimums of a 32-block times the sums of column c. They stay below 2^24: floats hold the exact integers.
template <class E, int W>
static inline F32 min_times_sum(const uint8_t* panel, const int32_t* dwords, int c) {
    const float sum = reinterpret_cast<const float*>(dwords + 12 * W)[c];
    const F32 low = load_float_lanes(panel + Panel<E>::kMin);
    if constexpr (E::kHalves == 1) return mul(low, splat(sum));
    const float sum_low = static_cast<float>(dwords[10 * W + c]) * (-1.0f / 128.0f);
    return fma(low, splat(sum_low), mul(load_float_lanes(panel + Panel<E>::kMin + 64), splat(sum - sum_low)));
}

// One chain of columns [C0, C0 + N) of a group of W: n 32-blocks. chain [N][16].
template <class E, int W, int C0, int N>
static void chain_columns(const uint8_t* panel, const int32_t* dwords, int64_t n, float* chain) {
    using P = Panel<E>;
    constexpr int kAccs = E::kHalves * E::kPlanes;
    F32 acc[N];
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) acc[c] = splat(0.0f);
    for (int64_t b = 0; b < n; ++b, panel += P::kBytes, dwords += kColumnDwords * W) {
        const int32_t* starts = dwords + 9 * W + C0;
        I32 dot[kAccs][N];
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) {
            if constexpr (E::kHalves == 2) {
                dot[0][c] = E::kCentred ? splat(starts[W + c]) : splat(0);
                dot[1][c] = E::kCentred ? splat(starts[2 * W + c]) : splat(0);
            } else {
                dot[0][c] = E::kCentred ? splat(starts[c]) : splat(0);
                if constexpr (E::kPlanes == 2) dot[1][c] = splat(0);
            }
        }
#pragma GCC unroll 8
        for (int v = 0; v < 8; ++v) {
            const I32 w = load_bytes(panel + 64 * v);
#pragma GCC unroll 16
            for (int c = 0; c < N; ++c) {
                I32& d = dot[E::kHalves == 2 ? v / 4 : 0][c];
                d = dot4_at(d, w, dwords + v * W + C0 + c);
            }
            if constexpr (E::kPlanes == 2) {
                const I32 low = load_bytes(panel + 512 + 64 * v);
#pragma GCC unroll 16
                for (int c = 0; c < N; ++c) dot[1][c] = dot4_at(dot[1][c], low, dwords + v * W + C0 + c);
            }
        }
        const float* dx = reinterpret_cast<const float*>(dwords + 8 * W) + C0;
        const F32 s = load_float_lanes(panel + P::kS);
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) {
            I32 d = dot[0][c];
            if constexpr (E::kPlanes == 2) d = add(shift_left<8>(d), dot[1][c]);
            if constexpr (E::kIntScale) d = mul(d, load_bytes(panel + P::kScale));
            if constexpr (E::kHalves == 2) d = add(d, mul(dot[1][c], load_bytes(panel + P::kScale + 64)));
            acc[c] = fma(to_float(d), mul(s, splat(dx[c])), acc[c]);
            if constexpr (E::kMin) {
                const F32 min = min_times_sum<E, W>(panel, dwords, C0 + c);
                acc[c] = fma(min, mul(load_float_lanes(panel + P::kMinusDmin), splat(dx[c])), acc[c]);
            }
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) store(chain + 16 * c, acc[c]);
}

// A group of W columns, in one piece or, where two accumulators a column would not fit the registers, in two.
template <class E, int W>
static void chain_group(const uint8_t* panel, const int32_t* dwords, int64_t n, float* chain) {
    constexpr bool kSplit = E::kHalves * E::kPlanes == 2 && W > 8;
    if constexpr (kSplit) {
        constexpr int kFirst = (W + 1) / 2;
        chain_columns<E, W, 0, kFirst>(panel, dwords, n, chain);
        chain_columns<E, W, kFirst, W - kFirst>(panel, dwords, n, chain + 16 * kFirst);
    } else {
        chain_columns<E, W, 0, W>(panel, dwords, n, chain);
    }
}

using ChainGroup = void (*)(const uint8_t* panel, const int32_t* dwords, int64_t n, float* chain);

// The kernel for a group of `width` columns, 1 .. kColumnGroup.
template <class E, int W = kColumnGroup>
static ChainGroup chain_group_of(int width) {
    if (width == W) return chain_group<E, W>;
    if constexpr (W > 1) return chain_group_of<E, W - 1>(width);
    return nullptr;
}

// y of one tile and group from its chains [4][n][16].
template <class T>
static void finish_tile(const TiledMatrix& w, int64_t tile, const ColumnActivations& group, const float* chains, float* y) {
    const int n = group.n_columns, n_rows = rows_in_tile(w, tile);
    const uint8_t* data = w.tiles + tile * w.tile_bytes;
    for (int c = 0; c < n; ++c) {
        const F32 low = add(load(chains + 16 * c), load(chains + 16 * (n + c)));
        const F32 high = add(load(chains + 16 * (2 * n + c)), load(chains + 16 * (3 * n + c)));
        const F32 out = finish<T>(data, add(low, high), group.mean_trees[c]);
        store_first(y + c * w.n_out + tile * kTileRows, out, n_rows);
    }
}

// Decoded tiles [first, last) times one group.
template <class T>
static void multiply_group(const TiledMatrix& w, int64_t first, int64_t last, const ColumnActivations& group,
                           const ChainOrder& order, const MatmulScratch& scratch, float* y) {
    const int64_t panel_bytes = w.n_in / 32 * Panel<Entry<T>>::kBytes;
    const int n = group.n_columns, chains_size = 4 * n * kTileRows;
    const ChainGroup kernel = chain_group_of<Entry<T>>(n);
    const int32_t* dwords = reinterpret_cast<const int32_t*>(group.blocks);
    for (int p = 0; p < 4; ++p) {
        const int64_t start = order.start[p], count = order.start[p + 1] - start;
        for (int64_t tile = first; tile < last; ++tile) {
            const uint8_t* panel = scratch.panels + (tile - first) * panel_bytes + start * Panel<Entry<T>>::kBytes;
            float* chain = scratch.chains + (tile - first) * chains_size + p * n * kTileRows;
            kernel(panel, dwords + start * kColumnDwords * n, count, chain);
        }
    }
    for (int64_t tile = first; tile < last; ++tile) {
        finish_tile<T>(w, tile, group, scratch.chains + (tile - first) * chains_size, y);
    }
}

template <class T>
static void matmul(const TiledMatrix& w, int64_t first, int64_t last, const ColumnActivations* groups, int n_groups,
                   const MatmulScratch& scratch, float* y) {
    const int64_t n_blocks = w.n_in / 32, panel_bytes = n_blocks * Panel<Entry<T>>::kBytes;
    const ChainOrder order = chain_order(n_blocks);
    int64_t chunk = scratch.panel_capacity / panel_bytes;
    chunk = chunk > kMaxChunkTiles ? kMaxChunkTiles : chunk;
    for (int64_t tile = first; tile < last; tile += chunk) {
        const int64_t end = tile + chunk < last ? tile + chunk : last;
        for (int64_t t = tile; t < end; ++t) {
            decode_panel<T>(w.tiles + t * w.tile_bytes, n_blocks, scratch.panels + (t - tile) * panel_bytes);
        }
        float* group_y = y;
        for (int g = 0; g < n_groups; ++g) {
            multiply_group<T>(w, tile, end, groups[g], order, scratch, group_y);
            group_y += groups[g].n_columns * w.n_out;
        }
    }
}

}  // namespace espalier::ESPALIER_TIER
