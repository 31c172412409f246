// IQ1_S and IQ1_M tiles, and those of IQ1_S_32 and IQ1_M_32, as vectors (tiles/decoded_block.h): a gather for eight weights, then code | minus << 2 is looked
// up, where minus says that the weights are moved down.
#pragma once

#include "cpu/tiles/decode_iq.h"

namespace espalier::ESPALIER_TIER {

static constexpr GatherGrid<2048> kGatherIQ1 = code_grid(kGridIQ1);

// Eighths: 8 * (code - 1) +- 1.
constexpr CentredTable moved_values() {
    CentredTable t{};
    for (int code = 0; code < 3; ++code) {
        t.v[code] = static_cast<uint8_t>(128 + 8 * (code - 1) + 1);
        t.v[4 | code] = static_cast<uint8_t>(128 + 8 * (code - 1) - 1);
    }
    return t;
}
static constexpr CentredTable kMovedValues = moved_values();

// Panel vectors 2G and 2G + 1. top: index bits 8..10 of a lane, in place; minus: bit 31 of a lane.
template <int G>
static inline void iq1_group(const uint8_t* low_index, I32 top, I32 minus, DecodedBlock& out) {
    const Table16 table = load_table(kMovedValues.v);
    const I32 entry = gather(kGatherIQ1.v, bit_or(widen_u8(low_index + 16 * G), bit_and(top, splat(0x700))));
    const I32 moved = bit_and(shift_right_signed<31>(minus), splat_bytes(4));
    out.w[2 * G] = lookup(table, bit_or(bit_and(entry, splat_bytes(15)), moved));
    out.w[2 * G + 1] = lookup(table, bit_or(bit_and(shift_right<4>(entry), splat_bytes(15)), moved));
}

static inline void decode(IQ1_S, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ1_S>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 word = widen_u16(unit + L::kWord + 32 * i);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        iq1_group<G>(unit + L::kIndex + 64 * i, move_bits<3 * G, 8>(word), move_bits<15, 31>(word), out);
    });
    out.scale[0] = bit_or(bit_and(shift_right<11>(word), splat(14)), splat(1));  // 1 + 2 * bits 12..14
    out.s = mul(half_lanes(unit + L::kD), splat(IQ1_S::kDStep));
}

static inline void decode(IQ1_M, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<IQ1_M>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 word = widen_u16(unit + L::kWord + 32 * i);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        iq1_group<G>(unit + L::kIndex + 64 * i, move_bits<4 * G, 8>(word), move_bits<4 * G + 3, 31>(word), out);
    });
    odd_scales(unit + L::kScale, i, out);
    out.s = mul(half_lanes(unit + L::kD), splat(IQ1_M::kDStep));
}

static inline void decode(IQ1_S_32, TileView t, int64_t u, int, DecodedBlock& out) {
    using L = Tile<IQ1_S_32>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 word = widen_u16(unit + L::kWord);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        iq1_group<G>(unit + L::kIndex, move_bits<3 * G, 8>(word), move_bits<15, 31>(word), out);
    });
    out.s = to_float(bit_or(bit_and(shift_right<11>(word), splat(14)), splat(1)));  // 1 + 2 * bits 12..14
}

static inline void decode(IQ1_M_32, TileView t, int64_t u, int, DecodedBlock& out) {
    using L = Tile<IQ1_M_32>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    const I32 word = widen_u16(unit + L::kWord);
    for_each_group([&](auto g) {
        constexpr int G = decltype(g)::value;
        iq1_group<G>(unit + L::kIndex, move_bits<4 * G, 8>(word), move_bits<4 * G + 3, 31>(word), out);
    });
    const I32 scales = widen_u8(t.tail + L::kTailBytes * u);
    out.scale[0] = bit_and(scales, splat(15));
    out.scale[1] = shift_right<4>(scales);
    out.s = splat(1.0f);  // the row's d multiplies the whole sum
}

}  // namespace espalier::ESPALIER_TIER
