// The 32-wide types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

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
