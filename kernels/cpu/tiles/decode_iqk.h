// The IQK types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

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

}  // namespace espalier::ESPALIER_TIER
