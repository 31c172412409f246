// The KT types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

// ---- The integer trellis.

struct TrellisPowers {
    uint32_t multiplier[9], increment[9];
};
template <class Trellis>
constexpr TrellisPowers trellis_powers() {
    TrellisPowers p{};
    for (int k = 0; k < 9; ++k) p.multiplier[k] = Trellis::multiplier(k), p.increment[k] = Trellis::increment(k);
    return p;
}
template <class Trellis>
struct Powers {
    static constexpr TrellisPowers value = trellis_powers<Trellis>();
};

template <class Trellis, int K>
static inline I32 trellis_state(I32 x) {
    constexpr uint32_t m = Powers<Trellis>::value.multiplier[K], c = Powers<Trellis>::value.increment[K];
    const I32 y = mul(x, splat(static_cast<int32_t>(m)));
    if constexpr (c == 0) return y;
    return add(y, splat(static_cast<int32_t>(c)));
}
// The four bytes, each at most 63, whose sum is weight K = 1..8 of the group plus the centre.
template <int K>
static inline I32 masked_state(I32 x) {
    return bit_and(trellis_state<IntegerTrellis, K>(x), splat(static_cast<int32_t>(kTrellisMask)));
}
// Byte sums (weight + 126) of weights K0 + 1 .. K0 + 4: sums are at most 252, so a shift and the next sum never carry.
template <int K0>
static inline I32 byte_sums(I32 x) {
    I32 t = add_byte_sums_u6(splat(0), masked_state<K0 + 4>(x));
    t = add_byte_sums_u6(shift_left<8>(t), masked_state<K0 + 3>(x));
    t = add_byte_sums_u6(shift_left<8>(t), masked_state<K0 + 2>(x));
    return add_byte_sums_u6(shift_left<8>(t), masked_state<K0 + 1>(x));
}

static inline I32 add_offset(I32 index) { return add(index, splat(static_cast<int32_t>(kTrellisOffset))); }

// States of the groups of 32-block i of a unit.
template <int kGroups>
static inline void load_states(const uint8_t* index, I32* x) {
    for (int g = 0; g < kGroups; ++g) x[g] = add_offset(widen_u16(index + 32 * g));
}
static inline void load_states_iq1(const uint8_t* unit, int i, I32* x) {
    using L = Tile<IQ1_KT>;
    const I32 low = load_bytes(unit + L::kLow + 64 * i), mid = widen_u16(unit + L::kMid + 32 * i);
    const I32 top = widen_u8(unit + L::kTop + 16 * i), mask = splat(0x1fff);
    x[0] = add_offset(bit_and(low, mask));
    x[1] = add_offset(bit_and(shift_right<13>(low), mask));
    x[2] = add_offset(bit_and(mid, mask));
    const I32 last = bit_or(shift_right<26>(low), shift_left<6>(shift_right<13>(mid)));
    x[3] = add_offset(bit_or(last, shift_left<9>(shift_right<4>(top))));
}
static inline I32 iq1_scale_code(const uint8_t* unit, int i) {
    return bit_and(widen_u8(unit + Tile<IQ1_KT>::kTop + 16 * i), splat(15));
}
static inline I32 scale_code(const uint8_t* codes, int i) { return widen_u8(codes + 16 * i); }
static inline F32 nonlinear_scale(I32 code) { return lookup(load(kNonlinearScales.v), code); }
static inline F32 signed_scale(const uint8_t* scales, int i) { return to_float(widen_s8(scales + 16 * i)); }

// 128 + sign * |v| from the byte sum v + 126.
template <int V>
static inline I32 signed_magnitude(I32 sums, I32 signs) {
    const I32 magnitude = abs_bytes(sub_bytes(sums, splat_bytes(kTrellisCentre)));
    return add_bytes(negate_bytes_where<V>(magnitude, signs), splat_bytes(128));
}

static inline void decode_groups_of_8(const I32* x, DecodedBlock& out) {
    const I32 to_128 = splat_bytes(128 - kTrellisCentre);
    for (int g = 0; g < 4; ++g) {
        out.w[2 * g] = add_bytes(byte_sums<0>(x[g]), to_128);
        out.w[2 * g + 1] = add_bytes(byte_sums<4>(x[g]), to_128);
    }
}

static inline void decode(IQ1_KT, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * Tile<IQ1_KT>::kUnitBytes;
    I32 x[4];
    load_states_iq1(unit, i, x);
    decode_groups_of_8(x, out);
    out.scale_code = iq1_scale_code(unit, i);
    out.s = nonlinear_scale(out.scale_code);
}
static inline void decode(IQ2_KT, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ2KT::kUnitBytes;
    I32 x[4];
    load_states<4>(unit + TileIQ2KT::kIndex + 128 * i, x);
    decode_groups_of_8(x, out);
    out.scale_code = scale_code(unit + TileIQ2KT::kScale, i);
    out.s = nonlinear_scale(out.scale_code);
}
static inline void decode(IQ3_KT, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ3KT::kUnitBytes;
    const I32 signs = load_bytes(unit + t.at(TileIQ3KT::kSign) + 64 * i);
    I32 x[4];
    load_states<4>(unit + TileIQ3KT::kIndex + 128 * i, x);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = signed_magnitude<V>(byte_sums<4 * (V % 2)>(x[V / 2]), signs);
    });
    out.scale_code = scale_code(unit + t.at(TileIQ3KT::kScale), i);
    out.s = to_float(out.scale_code);
}
static inline void decode(IQ4_KT, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ4KT::kUnitBytes;
    I32 x[8];
    load_states<8>(unit + TileIQ4KT::kIndex + 256 * i, x);
    for (int g = 0; g < 8; ++g) out.w[g] = add_bytes(byte_sums<0>(x[g]), splat_bytes(128 - kTrellisCentre));
    out.s = signed_scale(unit + t.at(TileIQ4KT::kScale), i);
}

// ---- 3INST: value * 8192 as 16 bits, in two planes of bytes.

template <int K>
static inline I32 three_inst_value(I32 x) {
    const I32 state = trellis_state<ThreeInstTrellis, K>(x);
    const I32 s = bit_xor(bit_and(state, splat(static_cast<int32_t>(kThreeInstKeep))),
                          splat(static_cast<int32_t>(kThreeInstFlip)));
    // Two f16 with exponents 12..15 only: 1024 + mantissa, shifted by exponent - 12, is the value times 8192.
    const I32 mantissa = bit_or(bit_and(s, splat(0x03ff03ff)), splat(0x04000400));
    const I32 magnitude = shift_left_halves(mantissa, bit_and(shift_right<10>(s), splat(0x00030003)));
    const I32 negative = sign_of_halves(s);
    return sum_halves(sub_halves(bit_xor(magnitude, negative), negative));
}
// |v|, negated where bit S of byte C of a lane of the sign plane is set.
template <int S, int C>
static inline I32 signed_value(I32 v, I32 signs) {
    const I32 negative = shift_right_signed<31>(shift_left<31 - 8 * C - S>(signs));
    return sub(bit_xor(abs(v), negative), negative);
}
template <int C>
static inline void put_value(I32 v, DecodedBlock& out, int vector) {
    const I32 biased = add(v, splat(32768));
    const I32 high = shift_left<8 * C>(shift_right<8>(biased));
    const I32 low = shift_left<8 * C>(bit_and(biased, splat(255)));
    out.w[vector] = C == 0 ? high : bit_or(out.w[vector], high);
    out.w_low[vector] = C == 0 ? low : bit_or(out.w_low[vector], low);
}
template <int K0>
static inline void put_values(I32 x, DecodedBlock& out, int vector) {
    put_value<0>(three_inst_value<K0 + 1>(x), out, vector);
    put_value<1>(three_inst_value<K0 + 2>(x), out, vector);
    put_value<2>(three_inst_value<K0 + 3>(x), out, vector);
    put_value<3>(three_inst_value<K0 + 4>(x), out, vector);
}

static inline void decode(IQ2_KT_V1, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ2KT::kUnitBytes;
    I32 x[4];
    load_states<4>(unit + TileIQ2KT::kIndex + 128 * i, x);
    for (int g = 0; g < 4; ++g) {
        put_values<0>(x[g], out, 2 * g);
        put_values<4>(x[g], out, 2 * g + 1);
    }
    out.scale_code = scale_code(unit + TileIQ2KT::kScale, i);
    out.s = nonlinear_scale(out.scale_code);
}
static inline void decode(IQ3_KT_V1, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ3KT::kUnitBytes;
    const I32 signs = load_bytes(unit + TileIQ3KT::kSign + 64 * i);
    I32 x[4];
    load_states<4>(unit + TileIQ3KT::kIndex + 128 * i, x);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value, K0 = 4 * (V % 2);
        put_value<0>(signed_value<V, 0>(three_inst_value<K0 + 1>(x[V / 2]), signs), out, V);
        put_value<1>(signed_value<V, 1>(three_inst_value<K0 + 2>(x[V / 2]), signs), out, V);
        put_value<2>(signed_value<V, 2>(three_inst_value<K0 + 3>(x[V / 2]), signs), out, V);
        put_value<3>(signed_value<V, 3>(three_inst_value<K0 + 4>(x[V / 2]), signs), out, V);
    });
    out.scale_code = scale_code(unit + TileIQ3KT::kScale, i);
    out.s = to_float(out.scale_code);
}
static inline void decode(IQ4_KT_V1, TileView t, int64_t u, int i, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * TileIQ4KT::kUnitBytes;
    I32 x[8];
    load_states<8>(unit + TileIQ4KT::kIndex + 256 * i, x);
    for (int g = 0; g < 8; ++g) put_values<0>(x[g], out, g);
    out.s = signed_scale(unit + TileIQ4KT::kScale, i);
}

}  // namespace espalier::ESPALIER_TIER
