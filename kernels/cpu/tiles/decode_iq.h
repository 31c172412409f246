// The IQ types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

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

}  // namespace espalier::ESPALIER_TIER
