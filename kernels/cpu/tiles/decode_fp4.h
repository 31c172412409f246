// The tiles of four-bit floats as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

static constexpr CentredTable kCentredFP4 = centred<16>(kTableFP4);

// half_of_e8m0 of fp4_blocks.h in each lane.
static inline F32 half_of_e8m0_lanes(I32 code) {
    const F32 subnormal = bits_to_float(mul(add(code, splat(1)), splat(0x00200000)));
    return select(less(to_float(code), splat(2.0f)), subnormal, bits_to_float(shift_left<23>(sub(code, splat(1)))));
}

static inline void decode(MXFP4, TileView t, int64_t u, int, DecodedBlock& out) {
    const uint8_t* unit = t.body + u * NibbleTile::kUnitBytes;
    const Table16 table = load_table(kCentredFP4.v);
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = lookup(table, plane_bits<4, V, 0>(unit + NibbleTile::kCode4));
    });
    out.s = half_of_e8m0_lanes(widen_u8(t.tail + 16 * u));
}

}  // namespace espalier::ESPALIER_TIER
