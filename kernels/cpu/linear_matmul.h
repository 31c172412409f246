// Matmul: Y = X W^T for several tokens. Tiles are decoded once to u8 panels in this thread's scratch (in cache), then
// multiplied with groups of tokens ("columns"). K is walked chain by chain, so that for each column one float chain
// and its integer accumulators stay in registers: 16 rows x kColumnGroup columns, or 32 rows x half of them, where
// each activation that is read serves two products.
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

// Whether a block's s times a column's dx is looked up among sixteen products by the codes of the rows, rather than
// multiplied: AVX512 permutes floats on a pipe that the dot products leave free.
template <class E>
constexpr bool kProductLookup = ESPALIER_TIER_ID == ESPALIER_AVX512_TIER && E::kScaleTable;

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
    if constexpr (kProductLookup<E>) store_bytes(panel + P::kS, w.scale_code);
    else store(reinterpret_cast<float*>(panel + P::kS), w.s);
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
    const int64_t n_whole = whole_blocks<T>(n_blocks);
    const auto decode_into_panel = [&](TileView view, int64_t b) {
        DecodedBlock w;
        decode(T{}, view, b / kUnit, static_cast<int>(b % kUnit), w);
        store_block<Entry<T>>(w, panel + chain_position(order, b) * Panel<Entry<T>>::kBytes);
    };
    for (int64_t b = 0; b < n_whole; ++b) {
        for (int line = 0; line < kBlockBytes; line += 64) prefetch(t.body + b * kBlockBytes + line + kPrefetchBytes);
        decode_into_panel(t, b);
    }
    if constexpr (T::kTailNibbles != 0) {
        const TileView last = view_tile<T>(tile, n_blocks, static_cast<int>(n_blocks - n_whole));
        for (int64_t b = n_whole; b < n_blocks; ++b) decode_into_panel(last, b);
    }
}

static inline F32 load_float_lanes(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }

// Decoded tiles beside each other, from a chain's first 32-block on; and where their chains go.
struct PanelTiles {
    const uint8_t* first;
    int64_t apart;  // bytes
};
struct ChainTiles {
    float* first;
    int64_t apart;  // floats
};

// The minimums of a 32-block times the sums of column c. They stay below 2^24: floats hold the exact integers.
template <class E, int W>
static inline F32 min_times_sum(const uint8_t* panel, const int32_t* dwords, int c) {
    const float sum = reinterpret_cast<const float*>(dwords + 12 * W)[c];
    const F32 low = load_float_lanes(panel + Panel<E>::kMin);
    if constexpr (E::kHalves == 1) return mul(low, splat(sum));
    const float sum_low = static_cast<float>(dwords[10 * W + c]) * (-1.0f / 128.0f);
    return fma(low, splat(sum_low), mul(load_float_lanes(panel + Panel<E>::kMin + 64), splat(sum - sum_low)));
}

// Integer accumulators of one 32-block: several where its parts are scaled apart.
template <class E>
constexpr int kAccumulators = E::kHalves * E::kPlanes;

// Tiles taken at once: two where the tier has registers for the accumulators of both.
template <class E>
constexpr int kTileGroup = ESPALIER_TIER_ID == ESPALIER_AVX512_TIER && kAccumulators<E> == 1 && !E::kMin ? 2 : 1;

// What accumulator a of column c starts with: the zero point's share, if a has one.
template <class E, int W>
static inline I32 start_of(const int32_t* dwords, int a, int c) {
    if constexpr (!E::kCentred) return splat(0);
    if constexpr (E::kHalves == 2) return splat_at(dwords + (10 + a) * W + c);
    return a == 0 ? splat_at(dwords + 9 * W + c) : splat(0);
}

// The integers of one tile and column, scaled and added to their chain. dx: kProductLookup, times the table's scales.
template <class E, int W>
static inline void add_block(const uint8_t* panel, const int32_t* dwords, int c, const I32* dot, F32 s, F32 dx, F32& acc) {
    using P = Panel<E>;
    I32 d = dot[0];
    if constexpr (E::kPlanes == 2) d = add(shift_left<8>(d), dot[1]);
    if constexpr (E::kIntScale) d = mul(d, load_bytes(panel + P::kScale));
    if constexpr (E::kHalves == 2) d = add(d, mul(dot[1], load_bytes(panel + P::kScale + 64)));
    acc = fma(to_float(d), kProductLookup<E> ? lookup(dx, float_bits(s)) : mul(s, dx), acc);
    if constexpr (E::kMin) {
        acc = fma(min_times_sum<E, W>(panel, dwords, c), mul(load_float_lanes(panel + P::kMinusDmin), dx), acc);
    }
}

// One chain of columns [C0, C0 + N) of a group of W and of kTiles tiles: n 32-blocks. chain [kTiles] apart, [N][16].
// Tiles share what is read of the activations, so that loads keep out of the way of the products.
template <class E, int W, int C0, int N, int kTiles>
static void chain_columns(PanelTiles panels, const int32_t* dwords, int64_t n, ChainTiles chains) {
    constexpr int kAccs = kAccumulators<E>;
    const uint8_t* panel[kTiles];
    F32 acc[kTiles][N];
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t) {
        panel[t] = panels.first + t * panels.apart;
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) acc[t][c] = splat(0.0f);
    }
    for (int64_t b = 0; b < n; ++b, dwords += kColumnDwords * W) {
        I32 dot[kTiles][N][kAccs];
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c)
#pragma GCC unroll 2
            for (int a = 0; a < kAccs; ++a) {
                const I32 start = start_of<E, W>(dwords, a, C0 + c);
#pragma GCC unroll 2
                for (int t = 0; t < kTiles; ++t) dot[t][c][a] = start;
            }
#pragma GCC unroll 8
        for (int v = 0; v < 8; ++v) {
#pragma GCC unroll 2
            for (int plane = 0; plane < E::kPlanes; ++plane) {
                const int a = E::kHalves == 2 ? v / 4 : plane;
                I32 w[kTiles];
#pragma GCC unroll 2
                for (int t = 0; t < kTiles; ++t) w[t] = load_bytes(panel[t] + 512 * plane + 64 * v);
#pragma GCC unroll 16
                for (int c = 0; c < N; ++c) {
                    if constexpr (kTiles == 1) {
                        dot[0][c][a] = dot4_at(dot[0][c][a], w[0], dwords + v * W + C0 + c);
                    } else {
                        const I32 x = splat_at(dwords + v * W + C0 + c);
#pragma GCC unroll 2
                        for (int t = 0; t < kTiles; ++t) dot[t][c][a] = dot4(dot[t][c][a], w[t], x);
                    }
                }
            }
        }
        const int32_t* dx = dwords + 8 * W + C0;
        F32 s[kTiles];
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t) s[t] = load_float_lanes(panel[t] + Panel<E>::kS);
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) {
            F32 x = bits_to_float(splat_at(dx + c));
            if constexpr (kProductLookup<E>) x = mul(x, load(E::table()));
#pragma GCC unroll 2
            for (int t = 0; t < kTiles; ++t) add_block<E, W>(panel[t], dwords, C0 + c, dot[t][c], s[t], x, acc[t][c]);
        }
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t) panel[t] += Panel<E>::kBytes;
    }
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) store(chains.first + t * chains.apart + 16 * (C0 + c), acc[t][c]);
}

// Columns that fit the registers beside each other: half a group where tiles are taken in pairs or an accumulator is
// not enough.
template <class E, int kTiles>
constexpr int kColumnsAtOnce = kTiles * kAccumulators<E> == 1 ? kColumnGroup : (kColumnGroup + 1) / 2;

template <class E, int W, int kTiles, int C0 = 0>
static void chain_group(PanelTiles panels, const int32_t* dwords, int64_t n, ChainTiles chains) {
    constexpr int kRest = W - C0, kParts = (kRest + kColumnsAtOnce<E, kTiles> - 1) / kColumnsAtOnce<E, kTiles>;
    constexpr int kFirst = (kRest + kParts - 1) / kParts;
    chain_columns<E, W, C0, kFirst, kTiles>(panels, dwords, n, chains);
    if constexpr (kFirst < kRest) chain_group<E, W, kTiles, C0 + kFirst>(panels, dwords, n, chains);
}

using ChainGroup = void (*)(PanelTiles panels, const int32_t* dwords, int64_t n, ChainTiles chains);

// The kernel for kTiles tiles and a group of `width` columns, 1 .. kColumnGroup.
template <class E, int kTiles, int W = kColumnGroup>
static ChainGroup chain_group_of(int width) {
    if (width == W) return chain_group<E, W, kTiles>;
    if constexpr (W > 1) return chain_group_of<E, kTiles, W - 1>(width);
    return nullptr;
}

// Column c of a group of n from its chains [4][n][16].
template <class T>
static inline F32 finish_column(const uint8_t* tile, const ColumnActivations& group, const float* chains, int c) {
    const int n = group.n_columns;
    chains += 16 * c;
    const F32 low = add(load(chains), load(chains + 16 * n));
    const F32 high = add(load(chains + 32 * n), load(chains + 48 * n));
    return finish<T>(tile, add(low, high), group.mean_trees[c]);
}

// The results of one tile and group from its chains. first_column: of the group.
template <class T>
static void finish_tile(const TiledMatrix& w, int64_t tile, const ColumnActivations& group, const float* chains,
                        int64_t first_column, const RowOutput& out) {
    const int n_rows = rows_in_tile(w, tile);
    const uint8_t* data = w.tiles + tile * w.tile_bytes;
    int64_t token = first_column / out.planes;
    for (int c = 0; c < group.n_columns; c += out.planes, ++token) {
        F32 y = finish_column<T>(data, group, chains, c);
        if (out.planes == 2) y = add(y, finish_column<T>(data, group, chains, c + 1));
        store_rows(out, token, tile, n_rows, y);
    }
}

// Decoded tiles [first, last) times one group.
template <class T>
static void multiply_group(const TiledMatrix& w, int64_t first, int64_t last, const ColumnActivations& group,
                           const ChainOrder& order, const MatmulScratch& scratch, int64_t first_column, const RowOutput& out) {
    using E = Entry<T>;
    const int64_t panel_bytes = w.n_in / 32 * Panel<E>::kBytes;
    const int n = group.n_columns;
    const int64_t chain_floats = 4 * n * kTileRows;
    const ChainGroup several = chain_group_of<E, kTileGroup<E>>(n), one = chain_group_of<E, 1>(n);
    const int32_t* dwords = reinterpret_cast<const int32_t*>(group.blocks);
    for (int p = 0; p < 4; ++p) {
        const int64_t start = order.start[p], count = order.start[p + 1] - start;
        const int32_t* activations = dwords + start * kColumnDwords * n;
        for (int64_t tile = first, step; tile < last; tile += step) {
            step = last - tile < kTileGroup<E> ? 1 : kTileGroup<E>;
            const PanelTiles panels{scratch.panels + (tile - first) * panel_bytes + start * Panel<E>::kBytes, panel_bytes};
            const ChainTiles chains{scratch.chains + (tile - first) * chain_floats + p * n * kTileRows, chain_floats};
            (step == 1 ? one : several)(panels, activations, count, chains);
        }
    }
    for (int64_t tile = first; tile < last; ++tile) {
        finish_tile<T>(w, tile, group, scratch.chains + (tile - first) * chain_floats, first_column, out);
    }
}

template <class T>
static void matmul(const TiledMatrix& w, int64_t first, int64_t last, const ColumnActivations* groups, int n_groups,
                   const MatmulScratch& scratch, const RowOutput& out) {
    const int64_t n_blocks = w.n_in / 32, panel_bytes = n_blocks * Panel<Entry<T>>::kBytes;
    const ChainOrder order = chain_order(n_blocks);
    int64_t chunk = scratch.panel_capacity / panel_bytes;
    chunk = chunk > kMaxChunkTiles ? kMaxChunkTiles : chunk;
    if (chunk > kTileGroup<Entry<T>>) chunk -= chunk % kTileGroup<Entry<T>>;
    for (int64_t tile = first; tile < last; tile += chunk) {
        const int64_t end = tile + chunk < last ? tile + chunk : last;
        for (int64_t t = tile; t < end; ++t) {
            decode_panel<T>(w.tiles + t * w.tile_bytes, n_blocks, scratch.panels + (t - tile) * panel_bytes);
        }
        for (int64_t g = 0, column = 0; g < n_groups; column += groups[g++].n_columns) {
            multiply_group<T>(w, tile, end, groups[g], order, scratch, column, out);
        }
    }
}

}  // namespace espalier::ESPALIER_TIER
