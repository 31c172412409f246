// The second half of tile_decode.h: types whose weights are stored codes, looked up or taken as they are.
#pragma once

#include "cpu/tile_decode.h"

namespace espalier::ESPALIER_TIER {

// Sixteen table entries + 128, the code's zero point.
struct CentredTable {
    uint8_t v[16];
};
template <int kEntries>
constexpr CentredTable centred(const int8_t* table) {
    CentredTable t{};
    for (int i = 0; i < 16; ++i) t.v[i] = static_cast<uint8_t>((i < kEntries ? table[i] : 0) + 128);
    return t;
}
static constexpr CentredTable kCentred2 = centred<8>(kTable2);
static constexpr CentredTable kCentred3 = centred<16>(kTable3);
static constexpr CentredTable kCentred4 = centred<16>(kTable4);

// The shifted half of kTable4 is the plain half plus one number.
constexpr int table4_shift() {
    for (int i = 0; i < 16; ++i)
        if (kTable4[16 + i] - kTable4[i] != kTable4[16] - kTable4[0]) return 0;
    return kTable4[16] - kTable4[0];
}
static constexpr int kTable4Shift = table4_shift();
static_assert(kTable4Shift > 0, "the shifted half of kTable4 differs from the plain half by a constant");

// A byte mask for the lanes whose extra bit of sub-block j = 2i, 2i + 1 is set.
static inline I32 extra_lanes(const uint8_t* extra, int j) {
    const I32 bits = widen_u16(extra);
    const I32 at_zero = bit_and(mul(bits, splat(static_cast<int32_t>(1u << (31 - j)))),
                                splat(static_cast<int32_t>(0x80000000u)));
    return shift_right_signed<31>(at_zero);
}
static inline void scale_pair(const uint8_t* scales, int i, DecodedBlock& out) {
    out.scale[0] = widen_s8(scales + 32 * i);
    out.scale[1] = widen_s8(scales + 32 * i + 16);
}

static inline void decode(IQ2_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred2.v);
    const I32 four = splat_bytes(4);
    const I32 shifted[2] = {bit_and(extra_lanes(unit + L::kExtra, 2 * i), four),
                            bit_and(extra_lanes(unit + L::kExtra, 2 * i + 1), four)};
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 code = plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i);
        out.w[V] = lookup(table, bit_or(code, shifted[V / 4]));
    });
    const I32 scales = widen_u8(unit + L::kScale + 16 * i);
    out.scale[0] = sub(bit_and(scales, splat(15)), splat(8));
    out.scale[1] = sub(shift_right<4>(scales), splat(8));
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(IQ3_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ3_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred3.v);
    const I32 eight = splat_bytes(8);
    const I32 shifted[2] = {bit_and(extra_lanes(unit + L::kExtra, 2 * i), eight),
                            bit_and(extra_lanes(unit + L::kExtra, 2 * i + 1), eight)};
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 low = plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i);
        const I32 high = plane_bits<1, V, 2>(unit + L::kCode1 + 64 * i);
        out.w[V] = lookup(table, bit_or(bit_or(low, high), shifted[V / 4]));
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(IQ4_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ4_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred4.v);
    const I32 shift = splat_bytes(kTable4Shift);
    const I32 shifted[2] = {bit_and(extra_lanes(unit + L::kExtra, 2 * i), shift),
                            bit_and(extra_lanes(unit + L::kExtra, 2 * i + 1), shift)};
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(lookup(table, plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i)), shifted[V / 4]);
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(IQ4_KS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ4_KS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred4.v);
    const I32 field = widen_u8(unit + L::kScale + 16 * i);
    const I32 extra = sub(splat(0), bit_and(field, splat(1)));
    const I32 shifted = bit_and(extra, splat_bytes(kTable4Shift));
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(lookup(table, plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i)), shifted);
    });
    out.s = to_float(sub(bit_and(field, splat(254)), splat(127)));
}

template <class T>
static inline void k_scales(const uint8_t* unit, int i, DecodedBlock& out) {
    using L = Tile<T>;
    out.scale[0] = widen_u8(unit + L::kScale + 16 * i);
    out.min[0] = widen_u8(unit + L::kMin + 16 * i);
    out.s = half_lanes(unit + L::kD);
    out.minus_dmin = mul(half_lanes(unit + L::kDmin), splat(-1.0f));
}

static inline void decode(Q4_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<Q4_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i);
    });
    k_scales<Q4_K>(unit, i, out);
}

static inline void decode(Q5_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<Q5_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = bit_or(plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i),
                          plane_bits<1, V, 4>(unit + L::kCode1 + 64 * i));
    });
    k_scales<Q5_K>(unit, i, out);
}

// Six bits around 32, moved to the common zero point.
template <int V>
static inline I32 six_bits(const uint8_t* low, const uint8_t* high) {
    return add_bytes(bit_or(plane_bits<4, V, 0>(low), plane_bits<2, V, 4>(high)), splat_bytes(128 - 32));
}

static inline void decode(Q6_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<Q6_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = six_bits<V>(unit + L::kCode4 + 256 * i, unit + L::kCode2 + 128 * i);
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
}

// kGridIQ3S with its four magnitudes as bytes.
struct MagnitudeGrid {
    uint32_t v[512];
};
constexpr MagnitudeGrid magnitude_grid() {
    MagnitudeGrid grid{};
    for (int i = 0; i < 512; ++i)
        for (int k = 0; k < 4; ++k) grid.v[i] |= (2u * (kGridIQ3S[i] >> (4 * k) & 15u) + 1u) << (8 * k);
    return grid;
}
static constexpr MagnitudeGrid kMagnitudeGrid = magnitude_grid();

static inline void decode(IQ3_S, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ3_S>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 signs = load_bytes(unit + L::kSign + 64 * i), high = widen_u8(unit + L::kHigh + 16 * i);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 top = bit_and(shift_left<8 - V>(high), splat(256));
        const I32 index = bit_or(widen_u8(unit + L::kIndex + 128 * i + 16 * V), top);
        out.w[V] = add_bytes(negate_bytes_where<V>(gather(kMagnitudeGrid.v, index), signs), splat_bytes(128));
    });
    out.scale[0] = widen_u8(unit + L::kScale + 16 * i);
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(Q8_0, TileView t, int64_t u, int, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * Tile<Q8_0>::kUnitBytes;
    for (int v = 0; v < 8; ++v) out.w[v] = load_bytes(unit + 64 * v);
    out.s = half_lanes(t.tail + 32 * u);
}

static inline void decode(Q6_0, TileView t, int64_t u, int, DecodedBlock& out) {
    using L = Tile<Q6_0>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = six_bits<V>(unit + L::kCode4, unit + L::kCode2);
    });
    out.s = half_lanes(t.tail + 32 * u);
}

}  // namespace espalier::ESPALIER_TIER
