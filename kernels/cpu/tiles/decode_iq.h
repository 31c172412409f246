// The tiles of the IQ types of 2 and more bits as vectors (tiles/decoded_block.h). One gather of 32-bit grid entries
// serves a group: four magnitudes as bytes for IQ3, eight codes as nibbles for IQ2.
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

template <int kEntries>
struct GatherGrid {
    uint32_t v[kEntries];
};

// ---- IQ2: codes 0..2 of magnitudes; code | sign << 2 is looked up.

// Byte k of an entry: code k in the low nibble, code 4 + k in the high.
template <int kEntries>
constexpr GatherGrid<kEntries> code_grid(const uint16_t (&grid)[kEntries]) {
    GatherGrid<kEntries> out{};
    for (int i = 0; i < kEntries; ++i)
        for (int k = 0; k < 8; ++k) out.v[i] |= (grid[i] >> (2 * k) & 3u) << (8 * (k % 4) + 4 * (k / 4));
    return out;
}
static constexpr GatherGrid<256> kGatherIQ2XXS = code_grid(kGridIQ2XXS);
static constexpr GatherGrid<512> kGatherIQ2XS = code_grid(kGridIQ2XS);
static constexpr GatherGrid<1024> kGatherIQ2S = code_grid(kGridIQ2S);

constexpr CentredTable signed_magnitudes() {
    CentredTable t{};
    for (int code = 0; code < 3; ++code) {
        t.v[code] = static_cast<uint8_t>(128 + kMagnitudesIQ2[code]);
        t.v[4 | code] = static_cast<uint8_t>(128 - kMagnitudesIQ2[code]);
    }
    return t;
}
static constexpr CentredTable kSignedMagnitudes = signed_magnitudes();

// Panel vectors 2G and 2G + 1: the eight weights of group G, whose grid entries are given.
template <int G>
static inline void iq2_group(I32 entry, const uint8_t* signs, DecodedBlock& out) {
    const Table16 table = load_table(kSignedMagnitudes.v);
    const I32 low = bit_and(entry, splat_bytes(15)), high = bit_and(shift_right<4>(entry), splat_bytes(15));
    out.w[2 * G] = lookup(table, bit_or(low, plane_bits<1, 2 * G, 2>(signs)));
    out.w[2 * G + 1] = lookup(table, bit_or(high, plane_bits<1, 2 * G + 1, 2>(signs)));
}

// 1 + 2 * code from the scale codes in the low and in the high nibble of a byte.
static inline I32 odd_low(I32 field) { return bit_or(bit_and(shift_left<1>(field), splat(30)), splat(1)); }
static inline I32 odd_high(I32 field) { return bit_or(bit_and(shift_right<3>(field), splat(30)), splat(1)); }

// Scales of 32-block i, where a byte holds those of an even and an odd block.
static inline I32 odd_of_pair(const uint8_t* scales, int i) {
    const I32 field = widen_u8(scales + 16 * (i / 2));
    return i % 2 == 0 ? odd_low(field) : odd_high(field);
}
static inline void odd_scales(const uint8_t* scales, int i, DecodedBlock& out) {
    const I32 field = widen_u8(scales + 16 * i);
    out.scale[0] = odd_low(field);
    out.scale[1] = odd_high(field);
}

static inline void decode(IQ2_XXS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_XXS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        const I32 index = widen_u8(unit + L::kIndex + 64 * i + 16 * G);
        iq2_group<G>(gather(kGatherIQ2XXS.v, index), unit + L::kSign + 64 * i, out);
    });
    out.scale[0] = odd_of_pair(unit + L::kScale, i);
    out.s = mul(half_lanes(unit + L::kD), splat(IQ2_XXS::kDStep));
}

static inline void decode(IQ2_XS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_XS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 pair = widen_u8(unit + L::kHigh + 16 * (i / 2)), high = i % 2 == 0 ? pair : shift_right<4>(pair);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        const I32 top = bit_and(move_bits<G, 8>(high), splat(0x100));
        const I32 index = bit_or(widen_u8(unit + L::kIndex + 64 * i + 16 * G), top);
        iq2_group<G>(gather(kGatherIQ2XS.v, index), unit + L::kSign + 64 * i, out);
    });
    odd_scales(unit + L::kScale, i, out);
    out.s = mul(half_lanes(unit + L::kD), splat(IQ2_XS::kDStep));
}

static inline void decode(IQ2_S, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_S>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 high = widen_u8(unit + L::kHigh + 16 * i);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        const I32 top = bit_and(move_bits<2 * G, 8>(high), splat(0x300));
        const I32 index = bit_or(widen_u8(unit + L::kIndex + 64 * i + 16 * G), top);
        iq2_group<G>(gather(kGatherIQ2S.v, index), unit + L::kSign + 64 * i, out);
    });
    odd_scales(unit + L::kScale, i, out);
    out.s = mul(half_lanes(unit + L::kD), splat(IQ2_S::kDStep));
}

// ---- IQ3: four magnitudes, then the signs.

template <int kEntries>
constexpr GatherGrid<kEntries> magnitude_grid(const uint16_t (&grid)[kEntries], const int8_t* magnitudes) {
    GatherGrid<kEntries> out{};
    for (int i = 0; i < kEntries; ++i)
        for (int k = 0; k < 4; ++k) out.v[i] |= static_cast<uint32_t>(magnitudes[grid[i] >> (4 * k) & 15]) << (8 * k);
    return out;
}
static constexpr GatherGrid<256> kGatherIQ3XXS = magnitude_grid(kGridIQ3XXS, kMagnitudesIQ3XXS);
static constexpr GatherGrid<512> kGatherIQ3S = magnitude_grid(kGridIQ3S, kMagnitudesIQ3S);

template <int V>
static inline I32 signed_bytes(I32 magnitudes, I32 signs) {
    return add_bytes(negate_bytes_where<V>(magnitudes, signs), splat_bytes(128));
}

static inline void decode(IQ3_XXS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ3_XXS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 signs = load_bytes(unit + L::kSign + 64 * i);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 index = widen_u8(unit + L::kIndex + 128 * i + 16 * V);
        out.w[V] = signed_bytes<V>(gather(kGatherIQ3XXS.v, index), signs);
    });
    out.scale[0] = odd_of_pair(unit + L::kScale, i);
    out.s = mul(half_lanes(unit + L::kD), splat(IQ3_XXS::kDStep));
}

static inline void decode(IQ3_S, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ3_S>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 signs = load_bytes(unit + L::kSign + 64 * i), high = widen_u8(unit + L::kHigh + 16 * i);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 top = bit_and(move_bits<V, 8>(high), splat(0x100));
        const I32 index = bit_or(widen_u8(unit + L::kIndex + 128 * i + 16 * V), top);
        out.w[V] = signed_bytes<V>(gather(kGatherIQ3S.v, index), signs);
    });
    out.scale[0] = widen_u8(unit + L::kScale + 16 * i);
    out.s = half_lanes(unit + L::kD);
}

// ---- IQ4: codes into kTable4.

static inline void table4_values(const uint8_t* codes, DecodedBlock& out) {
    const Table16 table = load_table(kCentred4.v);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = lookup(table, plane_bits<4, V, 0>(codes));
    });
}

static inline void decode(IQ4_NL, TileView t, int64_t u, int, DecodedBlock& out) {
    table4_values(t.body + u * NibbleTile::kUnitBytes, out);
    out.s = half_lanes(t.tail + 32 * u);
}

static inline void decode(IQ4_XS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ4_XS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    table4_values(unit + L::kCode4 + 256 * i, out);
    out.scale[0] = widen_s8(unit + L::kScale + 16 * i);
    out.s = half_lanes(unit + L::kD);
}

}  // namespace espalier::ESPALIER_TIER
