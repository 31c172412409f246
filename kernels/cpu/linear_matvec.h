// Mat-vec: y = W x for one token. Reads every weight byte once; 16 rows in the lanes, no horizontal sums.
//   w    tiles [first, last)         x  VectorActivations         out  one token
// KT types multiply the masked trellis states straight with the replicated activation: the byte sum and the dot
// product are one instruction, and -126 becomes the accumulator's start. Bound: integer instructions for KT types,
// memory for the wide ones.
#pragma once

#include "cpu/linear_activations.h"
#include "cpu/tiles/decode.h"

namespace espalier::ESPALIER_TIER {

// Far enough that a line arrives in time from DRAM, near enough to survive in L1.
constexpr int kPrefetchBytes = 4096;

// What one 32-block adds to a chain: fma(dot, dx * s, acc), with the block's s.
struct BlockDot {
    I32 dot;
    F32 s;
};

static inline const int32_t* dwords_of(const VectorActivations& x, int64_t b) {
    return reinterpret_cast<const int32_t*>(x.q + 32 * b);
}
static inline int32_t sum_of(const VectorActivations& x, int64_t b) { return x.sums[2 * b] + x.sums[2 * b + 1]; }

// Groups of 8 (4) weights whose states are x: the dot product without a decode.
template <int kGroups, int kGroupWeights>
static inline I32 trellis_dot(const I32* states, const int32_t* replicated, int32_t sum) {
    I32 acc0 = splat(-kTrellisCentre * sum), acc1 = splat(0);
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
        const int32_t* a = replicated + kGroupWeights * g;
        dot4_pair_u6_at(acc0, acc1, masked_state<1>(states[g]), masked_state<2>(states[g]), a);
        dot4_pair_u6_at(acc0, acc1, masked_state<3>(states[g]), masked_state<4>(states[g]), a + 2);
        if constexpr (kGroupWeights == 8) {
            dot4_pair_u6_at(acc0, acc1, masked_state<5>(states[g]), masked_state<6>(states[g]), a + 4);
            dot4_pair_u6_at(acc0, acc1, masked_state<7>(states[g]), masked_state<8>(states[g]), a + 6);
        }
    }
    return add(acc0, acc1);
}

static inline BlockDot block_dot(IQ1_KT, TileView t, int64_t u, int i, const VectorActivations& x, int64_t b) {
    const uint8_t* unit = t.body + u * Tile<IQ1_KT>::kUnitBytes;
    I32 states[4];
    load_states_iq1(unit, i, states);
    return {trellis_dot<4, 8>(states, x.replicated + 32 * b, sum_of(x, b)), nonlinear_scale(iq1_scale_code(unit, i))};
}
static inline BlockDot block_dot(IQ2_KT, TileView t, int64_t u, int i, const VectorActivations& x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ2KT::kUnitBytes;
    I32 states[4];
    load_states<4>(unit + TileIQ2KT::kIndex + 128 * i, states);
    return {trellis_dot<4, 8>(states, x.replicated + 32 * b, sum_of(x, b)),
            nonlinear_scale(scale_code(unit + TileIQ2KT::kScale, i))};
}
static inline BlockDot block_dot(IQ4_KT, TileView t, int64_t u, int i, const VectorActivations& x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ4KT::kUnitBytes;
    I32 states[8];
    load_states<8>(unit + TileIQ4KT::kIndex + 256 * i, states);
    return {trellis_dot<8, 4>(states, x.replicated + 32 * b, sum_of(x, b)),
            signed_scale(unit + TileIQ4KT::kScale, i)};
}
// Magnitudes need the byte sum first; the signs go to the activations.
static inline BlockDot block_dot(IQ3_KT, TileView t, int64_t u, int i, const VectorActivations& x, int64_t b) {
    const uint8_t* unit = t.body + u * TileIQ3KT::kUnitBytes;
    const I32 signs = load_bytes(unit + TileIQ3KT::kSign + 64 * i), centre = splat_bytes(kTrellisCentre);
    const int32_t* q = dwords_of(x, b);
    I32 states[4], acc[2] = {splat(0), splat(0)};
    load_states<4>(unit + TileIQ3KT::kIndex + 128 * i, states);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 magnitude = abs_bytes(sub_bytes(byte_sums<4 * (V % 2)>(states[V / 2]), centre));
        acc[V % 2] = dot4(acc[V % 2], magnitude, negate_bytes_where<V>(splat(q[V]), signs));
    });
    return {add(acc[0], acc[1]), to_float(scale_code(unit + TileIQ3KT::kScale, i))};
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

// One 32-block of any type added to its chain.
template <class T>
static inline void accumulate(TileView t, int64_t u, int i, const VectorActivations& x, int64_t b, F32& acc) {
    using E = Entry<T>;
    const F32 dx = splat(x.dx[b]);
    const int32_t* q = dwords_of(x, b);
    constexpr int32_t zero_point = E::kCentred ? -128 : 0;
    const int32_t* sums = x.sums + 2 * b;
    DecodedBlock w;
    decode(T{}, t, u, i, w);
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

template <class T>
static inline void step(TileView t, const VectorActivations& x, int64_t b, F32* acc) {
    constexpr int kUnit = Tile<T>::kUnitBlocks;
    const int64_t u = b / kUnit;
    const int i = static_cast<int>(b % kUnit);
    F32& chain = acc[(b & 7) >> 1];
    if constexpr (Direct<T>::value) {
        const BlockDot block = block_dot(T{}, t, u, i, x, b);
        chain = fma(to_float(block.dot), mul(splat(x.dx[b]), block.s), chain);
    } else {
        accumulate<T>(t, u, i, x, b, chain);
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

template <class T>
static void matvec(const TiledMatrix& w, int64_t first, int64_t last, const VectorActivations& x, const RowOutput& out) {
    const int64_t n_blocks = w.n_in / 32;
    constexpr int kBlockBytes = Tile<T>::kUnitBytes / Tile<T>::kUnitBlocks;
    for (int64_t tile = first; tile < last; ++tile) {
        const uint8_t* data = w.tiles + tile * w.tile_bytes;
        const TileView t = view_tile<T>(data, n_blocks);
        F32 acc[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
        for (int64_t b = 0; b < n_blocks; ++b) {
            for (int line = 0; line < kBlockBytes; line += 64) prefetch(t.body + b * kBlockBytes + line + kPrefetchBytes);
            step<T>(t, x, b, acc);
        }
        const F32 tree = add(add(acc[0], acc[1]), add(acc[2], acc[3]));
        store_rows(out, 0, tile, rows_in_tile(w, tile), finish<T>(data, tree, x.mean_tree));
    }
}

}  // namespace espalier::ESPALIER_TIER
