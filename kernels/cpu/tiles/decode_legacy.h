// The 32-wide types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

// Codes 0 .. 15 or 0 .. 31 of a 32-block, moved up by kShift.
template <int kShift>
static inline void four_bits(const uint8_t* unit, DecodedBlock& out) {
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 code = plane_bits<4, V, 0>(unit + NibbleTile::kCode4);
        out.w[V] = kShift == 0 ? code : add_bytes(code, splat_bytes(kShift));
    });
}
template <int kShift>
static inline void five_bits(const uint8_t* unit, DecodedBlock& out) {
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 code = bit_or(plane_bits<4, V, 0>(unit + FiveBitTile::kCode4),
                                plane_bits<1, V, 4>(unit + FiveBitTile::kCode1));
        out.w[V] = kShift == 0 ? code : add_bytes(code, splat_bytes(kShift));
    });
}
// f16 d and minimum of a row: dmin is -minimum (legacy_blocks.h).
static inline void factor_and_minimum(const uint8_t* tail, DecodedBlock& out) {
    out.s = half_lanes(tail);
    out.min[0] = splat(1);
    out.minus_dmin = half_lanes(tail + 32);
}

static inline void decode(Q4_0, TileView t, int64_t u, int, DecodedBlock& out) {
    four_bits<128 - 8>(t.body + u * NibbleTile::kUnitBytes, out);
    out.s = half_lanes(t.tail + 32 * u);
}
static inline void decode(Q4_1, TileView t, int64_t u, int, DecodedBlock& out) {
    four_bits<0>(t.body + u * NibbleTile::kUnitBytes, out);
    factor_and_minimum(t.tail + 64 * u, out);
}
static inline void decode(Q5_0, TileView t, int64_t u, int, DecodedBlock& out) {
    five_bits<128 - 16>(t.body + u * FiveBitTile::kUnitBytes, out);
    out.s = half_lanes(t.tail + 32 * u);
}
static inline void decode(Q5_1, TileView t, int64_t u, int, DecodedBlock& out) {
    five_bits<0>(t.body + u * FiveBitTile::kUnitBytes, out);
    factor_and_minimum(t.tail + 64 * u, out);
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
