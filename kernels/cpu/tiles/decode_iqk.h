// The IQK types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

static constexpr CentredTable kCentred2 = centred<8>(kTable2);
static constexpr CentredTable kCentred3 = centred<16>(kTable3);

static constexpr CentredTable kCentred5[2] = {centred<16>(kTable5), centred<16>(kTable5 + 16)};
static constexpr CentredTable kCentred6[4] = {centred<16>(kTable6), centred<16>(kTable6 + 16),
                                              centred<16>(kTable6 + 32), centred<16>(kTable6 + 48)};
static constexpr CentredTable kCentredKL[4] = {centred<16>(kTableKL), centred<16>(kTableKL + 16),
                                               centred<16>(kTableKL + 32), centred<16>(kTableKL + 48)};

// The shifted halves of the larger tables are the plain half plus one number.
template <int kEntries>
constexpr int table_shift(const int8_t* table) {
    for (int i = 0; i < kEntries; ++i)
        if (table[kEntries + i] - table[i] != table[kEntries] - table[0]) return 0;
    return table[kEntries] - table[0];
}
static constexpr int kTable4Shift = table_shift<16>(kTable4);
static constexpr int kTable5Shift = table_shift<32>(kTable5);
static constexpr int kTable6Shift = table_shift<64>(kTable6);
static_assert(kTable4Shift > 0 && kTable5Shift > 0 && kTable6Shift > 0, "shifted by a constant");

// Tables of 32 and 64 bytes, from lookups into their quarters; index bits 4 and 5 choose among them.
struct Table32 {
    Table16 low, high;
};
struct Table64 {
    Table32 low, high;
};
static inline Table32 load_table32(const CentredTable* parts) {
    return {load_table(parts[0].v), load_table(parts[1].v)};
}
static inline Table64 load_table64(const CentredTable* parts) {
    return {load_table32(parts), load_table32(parts + 2)};
}
static inline I32 lookup(const Table32& table, I32 index) {
    return select_bytes_where<4>(index, lookup(table.high, index), lookup(table.low, index));
}
static inline I32 lookup(const Table64& table, I32 index) {
    return select_bytes_where<5>(index, lookup(table.high, index), lookup(table.low, index));
}

// A byte mask for the lanes whose extra bit of sub-block j = 2i, 2i + 1 is set.
static inline I32 extra_lanes(const uint8_t* extra, int j) {
    const I32 bits = widen_u16(extra);
    const I32 at_zero = bit_and(mul(bits, splat(static_cast<int32_t>(1u << (31 - j)))),
                                splat(static_cast<int32_t>(0x80000000u)));
    return shift_right_signed<31>(at_zero);
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

static inline void decode(IQ5_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ5_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table32 table = load_table32(kCentred5);
    const I32 shift = splat_bytes(kTable5Shift);
    const I32 shifted[2] = {bit_and(extra_lanes(unit + L::kExtra, 2 * i), shift),
                            bit_and(extra_lanes(unit + L::kExtra, 2 * i + 1), shift)};
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(lookup(table, five_bits<V>(unit + L::kCode4 + 256 * i, unit + L::kCode1 + 64 * i)), shifted[V / 4]);
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(IQ6_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ6_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table64 table = load_table64(kCentred6);
    const I32 shift = splat_bytes(kTable6Shift);
    const I32 shifted[2] = {bit_and(extra_lanes(unit + L::kExtra, 2 * i), shift),
                            bit_and(extra_lanes(unit + L::kExtra, 2 * i + 1), shift)};
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 code = bit_or(plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i), plane_bits<2, V, 4>(unit + L::kCode2 + 128 * i));
        out.w[V] = add_bytes(lookup(table, code), shifted[V / 4]);
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
}

// Scale byte of the f16 KS types: the scale as float, and `half` in the bytes of rows with the table's shifted half.
static inline I32 scale_and_half(const uint8_t* scales, int i, int half, DecodedBlock& out) {
    const I32 field = widen_u8(scales + 16 * i);
    out.s = to_float(sub(bit_and(field, splat(31)), splat(16)));
    return bit_and(sub(splat(0), shift_right<5>(field)), splat_bytes(half));
}

static inline void decode(IQ2_KS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_KS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred2.v);
    const I32 shifted = scale_and_half(unit + L::kScale, i, 4, out);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = lookup(table, bit_or(plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i), shifted));
    });
}

static inline void decode(IQ3_KS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ3_KS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred3.v);
    const I32 shifted = scale_and_half(unit + L::kScale, i, 8, out);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 low = plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i);
        const I32 high = plane_bits<1, V, 2>(unit + L::kCode1 + 64 * i);
        out.w[V] = lookup(table, bit_or(bit_or(low, high), shifted));
    });
}

// Both bytes of a 16-bit half get the pair's code; the second weight's byte looks into the table's second half.
static inline void decode(IQ2_KL, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ2_KL>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table64 table = load_table64(kCentredKL);
    const I32 second = splat(0x20002000), nibbles = splat(0x000f000f), fifth = splat(0x00100010);
    const I32 tops = widen_u16(unit + L::kPair1 + 32 * i);  // bit v in the low byte of each half, then bit 4
    const I32 spread = shift_left<4>(bit_and(bit_or(tops, shift_left<8>(tops)), splat(0x00ff00ff)));
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 low = bit_and(shift_right<4 * (V % 4)>(load_bytes(unit + L::kPair4 + 128 * i + 64 * (V / 4))), nibbles);
        const I32 code = bit_or(low, bit_and(shift_right<V>(spread), fifth));
        out.w[V] = lookup(table, bit_or(bit_or(code, shift_left<8>(code)), second));
    });
    out.s = to_float(widen_s8(unit + L::kScale + 16 * i));
}

// Scale byte of IQ4_KS and its kind: the scale as float, and `shift` in the bytes of rows with the shifted half.
static inline I32 scale_and_shift(const uint8_t* scales, int i, int shift, DecodedBlock& out) {
    const I32 field = widen_u8(scales + 16 * i);
    out.s = to_float(sub(bit_and(field, splat(254)), splat(127)));
    return bit_and(sub(splat(0), bit_and(field, splat(1))), splat_bytes(shift));
}

static inline void decode(IQ4_KS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ4_KS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table16 table = load_table(kCentred4.v);
    const I32 shifted = scale_and_shift(unit + L::kScale, i, kTable4Shift, out);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(lookup(table, plane_bits<4, V, 0>(unit + L::kCode4 + 256 * i)), shifted);
    });
}

static inline void decode(IQ4_KSS, TileView t, int64_t u, int i, DecodedBlock& out) { decode(IQ4_KS{}, t, u, i, out); }

static inline void decode(IQ5_KS, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ5_KS>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const Table32 table = load_table32(kCentred5);
    const I32 shifted = scale_and_shift(unit + L::kScale, i, kTable5Shift, out);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(lookup(table, five_bits<V>(unit + L::kCode4 + 256 * i, unit + L::kCode1 + 64 * i)), shifted);
    });
}

static inline void decode(Q8_KV, TileView t, int64_t u, int, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * Tile<Q8_KV>::kUnitBytes;
    for (int v = 0; v < 8; ++v) out.w[v] = load_bytes(unit + 64 * v);
    out.s = splat(1.0f);
}

}  // namespace espalier::ESPALIER_TIER
