// Mat-vec: y = W x for one token. Reads every weight byte once; 16 rows in the lanes, no horizontal sums.
//   w    tiles [first, last)         x  VectorActivations of each plane         out  one token
// KT types multiply the masked trellis states straight with the replicated activation: the byte sum and the dot
// product are one instruction, and -126 becomes the accumulator's start. Bound: integer instructions for KT types,
// memory for the wide ones.
#pragma once

#include "cpu/linear_activations.h"
#include "cpu/tiles/decode.h"

namespace espalier::ESPALIER_TIER {

// Far enough that a line arrives in time from DRAM, near enough to survive in L1.
constexpr int kPrefetchBytes = 4096;

// What one 32-block adds to a chain of each plane: fma(dot, dx * s, acc), with the block's s.
template <int kPlanes>
struct BlockDots {
    I32 dot[kPlanes];
    F32 s;
};
template <int kPlanes>
using Planes = const VectorActivations (&)[kPlanes];

static inline const int32_t* dwords_of(const VectorActivations& x, int64_t b) {
    return reinterpret_cast<const int32_t*>(x.q + 32 * b);
}
static inline int32_t sum_of(const VectorActivations& x, int64_t b) { return x.sums[2 * b] + x.sums[2 * b + 1]; }

// Weights K and K + 1 of a trellis group whose state is `state` and whose first column is `first`.
template <int K, int kPlanes>
static inline void add_trellis_pair(I32 state, Planes<kPlanes> x, int64_t first, I32 (&acc)[kPlanes][2]) {
    const I32 u0 = masked_state<K>(state), u1 = masked_state<K + 1>(state);
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) dot4_pair_u6_at(acc[p][0], acc[p][1], u0, u1, x[p].replicated + first + K - 1);
}

// Groups of 8 (4) weights with these states: the dot products without a decode.
template <int kGroups, int kGroupWeights, int kPlanes>
static inline void trellis_dots(const I32* states, Planes<kPlanes> x, int64_t b, I32 (&dot)[kPlanes]) {
    I32 acc[kPlanes][2];
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) acc[p][0] = splat(-kTrellisCentre * sum_of(x[p], b)), acc[p][1] = splat(0);
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
        const int64_t first = 32 * b + kGroupWeights * g;
        add_trellis_pair<1>(states[g], x, first, acc);
        add_trellis_pair<3>(states[g], x, first, acc);
        if constexpr (kGroupWeights == 8) {
            add_trellis_pair<5>(states[g], x, first, acc);
            add_trellis_pair<7>(states[g], x, first, acc);
        }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) dot[p] = add(acc[p][0], acc[p][1]);
}

template <int kPlanes>
static inline BlockDots<kPlanes> block_dots(IQ1_KT, TileView t, int64_t u, int i, Planes<kPlanes> x, int64_t b) {
    const uint8_t* unit = t.body + u * Tile<IQ1_KT>::kUnitBytes;
    I32 states[4];
    load_states_iq1(unit, i, states);
    BlockDots<kPlanes> out;
    trellis_dots<4, 8>(states, x, b, out.dot);
    out.s = nonlinear_scale(iq1_scale_code(unit, i));
    return out;
}
template <int kPlanes>
static inline BlockDots<kPlanes> block_dots(IQ2_KT, TileView t, int64_t u, int i, Planes<kPlanes> x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ2KT::kUnitBytes;
    I32 states[4];
    load_states<4>(unit + TileIQ2KT::kIndex + 128 * i, states);
    BlockDots<kPlanes> out;
    trellis_dots<4, 8>(states, x, b, out.dot);
    out.s = nonlinear_scale(scale_code(unit + TileIQ2KT::kScale, i));
    return out;
}
template <int kPlanes>
static inline BlockDots<kPlanes> block_dots(IQ4_KT, TileView t, int64_t u, int i, Planes<kPlanes> x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ4KT::kUnitBytes;
    I32 states[8];
    load_states<8>(unit + TileIQ4KT::kIndex + 256 * i, states);
    BlockDots<kPlanes> out;
    trellis_dots<8, 4>(states, x, b, out.dot);
    out.s = signed_scale(unit + t.at(TileIQ4KT::kScale), i);
    return out;
}
// Magnitudes need the byte sum first; the signs go to the activations.
template <int kPlanes>
static inline BlockDots<kPlanes> block_dots(IQ3_KT, TileView t, int64_t u, int i, Planes<kPlanes> x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ3KT::kUnitBytes;
    const I32 signs = load_bytes(unit + t.at(TileIQ3KT::kSign) + 64 * i), centre = splat_bytes(kTrellisCentre);
    I32 states[4], acc[kPlanes][2];
    load_states<4>(unit + TileIQ3KT::kIndex + 128 * i, states);
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) acc[p][0] = acc[p][1] = splat(0);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 magnitude = abs_bytes(sub_bytes(byte_sums<4 * (V % 2)>(states[V / 2]), centre));
#pragma GCC unroll 2
        for (int p = 0; p < kPlanes; ++p) {
            const I32 q = negate_bytes_where<V>(splat(dwords_of(x[p], b)[V]), signs);
            acc[p][V % 2] = dot4(acc[p][V % 2], magnitude, q);
        }
    });
    BlockDots<kPlanes> out;
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) out.dot[p] = add(acc[p][0], acc[p][1]);
    out.s = to_float(scale_code(unit + t.at(TileIQ3KT::kScale), i));
    return out;
}

// Dot product of panel vectors [kFirst, kFirst + kCount).
template <int kFirst, int kCount>
static inline I32 panel_dot(const I32* w, const int32_t* q, int32_t start) {
    I32 acc0 = splat(start), acc1 = splat(0);
#pragma GCC unroll 4
    for (int v = kFirst; v < kFirst + kCount; v += 2) {
        acc0 = dot4_at(acc0, w[v], q + v);
        acc1 = dot4_at(acc1, w[v + 1], q + v + 1);
    }
    return add(acc0, acc1);
}

// A decoded 32-block of any type added to its chain of one plane.
template <class T>
static inline void accumulate(const DecodedBlock& w, const VectorActivations& x, int64_t b, F32& acc) {
    using E = Entry<T>;
    const F32 dx = splat(x.dx[b]);
    const int32_t* q = dwords_of(x, b);
    constexpr int32_t zero_point = E::kCentred ? -128 : 0;
    const int32_t* sums = x.sums + 2 * b;
    I32 dot;
    if constexpr (E::kHalves == 2) {
        dot = add(mul(panel_dot<0, 4>(w.w, q, zero_point * sums[0]), w.scale[0]),
                  mul(panel_dot<4, 4>(w.w, q, zero_point * sums[1]), w.scale[1]));
    } else {
        dot = panel_dot<0, 8>(w.w, q, zero_point * (sums[0] + sums[1]));
        if constexpr (E::kPlanes == 2) dot = add(shift_left<8>(dot), panel_dot<0, 8>(w.w_low, q, 0));
        if constexpr (E::kIntScale) dot = mul(dot, w.scale[0]);
    }
    acc = fma(to_float(dot), mul(dx, w.s), acc);
    if constexpr (E::kMin) {
        I32 min;
        if constexpr (E::kHalves == 2) {
            min = add(mul(w.min[0], splat(sums[0])), mul(w.min[1], splat(sums[1])));
        } else {
            min = mul(w.min[0], splat(sums[0] + sums[1]));
        }
        acc = fma(to_float(min), mul(dx, w.minus_dmin), acc);
    }
}

template <class T>
struct Direct {
    static constexpr bool value = false;
};
template <>
struct Direct<IQ1_KT> {
    static constexpr bool value = true;
};
template <>
struct Direct<IQ2_KT> {
    static constexpr bool value = true;
};
template <>
struct Direct<IQ3_KT> {
    static constexpr bool value = true;
};
template <>
struct Direct<IQ4_KT> {
    static constexpr bool value = true;
};

template <class T, int kPlanes>
static inline __attribute__((always_inline)) void step(TileView t, Planes<kPlanes> x, int64_t b, F32 (&acc)[kPlanes][4]) {
    constexpr int kUnit = Tile<T>::kUnitBlocks;
    const int64_t u = b / kUnit, chain = (b & 7) >> 1;
    const int i = static_cast<int>(b % kUnit);
    if constexpr (Direct<T>::value) {
        const BlockDots<kPlanes> block = block_dots(T{}, t, u, i, x, b);
#pragma GCC unroll 2
        for (int p = 0; p < kPlanes; ++p) {
            acc[p][chain] = fma(to_float(block.dot[p]), mul(splat(x[p].dx[b]), block.s), acc[p][chain]);
        }
    } else {
        DecodedBlock w;
        decode(T{}, t, u, i, w);
#pragma GCC unroll 2
        for (int p = 0; p < kPlanes; ++p) accumulate<T>(w, x[p], b, acc[p][chain]);
    }
}

// y of 16 rows from their chains: block32.h, "A linear".
template <class T>
static inline F32 finish(const uint8_t* tile, F32 tree, float mean_tree) {
    if constexpr (T::kRule != Rule::kRowScale) return tree;
    const float* factors = reinterpret_cast<const float*>(tile);
    F32 d = load(factors);
    if constexpr (T::kGain != 1.0f) d = mul(d, splat(T::kGain));
    if constexpr (T::kValueStep != 1.0f) d = mul(d, splat(T::kValueStep));
    const F32 y = mul(d, tree);
    if constexpr (T::kHasMean) return fma(load(factors + 16), splat(mean_tree), y);
    return y;
}

static inline int rows_in_tile(const TiledMatrix& w, int64_t tile) {
    const int64_t rest = w.n_out - tile * kTileRows;
    return rest < kTileRows ? static_cast<int>(rest) : kTileRows;
}

// The results of a tile's rows for one token.
static inline void store_rows(const RowOutput& out, int64_t token, int64_t tile, int n_rows, F32 values) {
    const int64_t at = token * out.stride + tile * kTileRows - out.first_row;
    if (out.residual != nullptr) values = add(load_first(out.residual + at, n_rows), values);
    if (n_rows == kTileRows) store(out.y + at, values);
    else store_first(out.y + at, values, n_rows);
}

template <class T, int kPlanes>
static void matvec_planes(const TiledMatrix& w, int64_t first, int64_t last, Planes<kPlanes> x, const RowOutput& out) {
    const int64_t n_blocks = w.n_in / 32, n_whole = whole_blocks<T>(n_blocks);
    constexpr int kBlockBytes = Tile<T>::kUnitBytes / Tile<T>::kUnitBlocks;
    for (int64_t tile = first; tile < last; ++tile) {
        const uint8_t* data = w.tiles + tile * w.tile_bytes;
        const TileView t = view_tile<T>(data, n_blocks);
        F32 acc[kPlanes][4], y[kPlanes];
        for (int p = 0; p < kPlanes; ++p)
            for (int chain = 0; chain < 4; ++chain) acc[p][chain] = splat(0.0f);
        for (int64_t b = 0; b < n_whole; ++b) {
            for (int line = 0; line < kBlockBytes; line += 64) prefetch(t.body + b * kBlockBytes + line + kPrefetchBytes);
            step<T>(t, x, b, acc);
        }
        if constexpr (T::kTailNibbles != 0) {
            const TileView last = view_tile<T>(data, n_blocks, static_cast<int>(n_blocks - n_whole));
            for (int64_t b = n_whole; b < n_blocks; ++b) step<T>(last, x, b, acc);
        }
        for (int p = 0; p < kPlanes; ++p) {
            y[p] = finish<T>(data, add(add(acc[p][0], acc[p][1]), add(acc[p][2], acc[p][3])), x[p].mean_tree);
        }
        store_rows(out, 0, tile, rows_in_tile(w, tile), kPlanes == 2 ? add(y[0], y[kPlanes - 1]) : y[0]);
    }
}

template <class T>
static void matvec(const TiledMatrix& w, int64_t first, int64_t last, const VectorActivations* x, const RowOutput& out) {
    const VectorActivations planes[1] = {x[0]};
    matvec_planes<T>(w, first, last, planes, out);
}
template <class T>
static void matvec_pair(const TiledMatrix& w, int64_t first, int64_t last, const VectorActivations* x, const RowOutput& out) {
    const VectorActivations planes[2] = {x[0], x[1]};
    matvec_planes<T>(w, first, last, planes, out);
}

}  // namespace espalier::ESPALIER_TIER
