// The K types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

static inline void decode(Q2_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<Q2_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i);
    });
    for (int h = 0; h < 2; ++h) {
        const I32 field = widen_u8(unit + L::kScale + 32 * i + 16 * h);
        out.scale[h] = bit_and(field, splat(15));
        out.min[h] = shift_right<4>(field);
    }
    out.s = half_lanes(unit + L::kD);
    out.minus_dmin = mul(half_lanes(unit + L::kDmin), splat(-1.0f));
}

static inline void decode(Q3_K, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<Q3_K>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        const I32 code = bit_or(plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i),
                                plane_bits<1, V, 2>(unit + L::kCode1 + 64 * i));
        out.w[V] = add_bytes(code, splat_bytes(128 - 4));
    });
    scale_pair(unit + L::kScale, i, out);
    out.s = half_lanes(unit + L::kD);
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
        out.w[V] = five_bits<V>(unit + L::kCode4 + 256 * i, unit + L::kCode1 + 64 * i);
    });
    k_scales<Q5_K>(unit, i, out);
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

}  // namespace espalier::ESPALIER_TIER
