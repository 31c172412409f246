// The ternary types' tiles as vectors (tiles/decoded_block.h).
#pragma once

#include "cpu/tiles/decoded_block.h"

namespace espalier::ESPALIER_TIER {

// Digit n of a vector of bytes (ternary_blocks.h) - 1 + 128: the product with 3^n, modulo 256, lies in the first, second
// or third third of 0..255.
static inline I32 ternary_digit(const uint8_t* bytes, int n) {
    const I32 x = load_bytes(bytes), power = splat(kPowersOf3[n] * 0x00010001), low = splat(0x00ff00ff);
    const I32 even = bit_and(mul_halves(x, power), low);
    const I32 odd = mul_halves(bit_and(x, splat(~0x00ff00ff)), power);
    const I32 top = bit_or(even, odd);
    const I32 above_first = bytes_at_least(top, splat_bytes(86)), above_second = bytes_at_least(top, splat_bytes(171));
    return sub_bytes(sub_bytes(splat_bytes(127), above_first), above_second);
}

static inline void decode(TQ1_0, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<TQ1_0>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for (int v = 0; v < 8; ++v) {
        const int run = 2 * (i - 5) + v / 4;  // of 16 columns, after the first five 32-blocks
        if (i < 5) {
            out.w[v] = ternary_digit(unit + L::kDigits + 64 * v, i);
        } else if (run < 5) {
            out.w[v] = ternary_digit(unit + L::kDigitsHalf + 64 * (v % 4), run);
        } else {
            out.w[v] = ternary_digit(unit + L::kDigitsLast, v % 4);
        }
    }
    out.s = half_lanes(unit + L::kD);
}

static inline void decode(TQ2_0, TileView t, int64_t u, int i, DecodedBlock& out) {
    using L = Tile<TQ2_0>;
    const uint8_t* unit = t.body + u * L::kUnitBytes;
    for_each_vector([&](auto v) {
        constexpr int V = decltype(v)::value;
        out.w[V] = add_bytes(plane_bits<2, V, 0>(unit + L::kCode2 + 128 * i), splat_bytes(127));
    });
    out.s = half_lanes(unit + L::kD);
}

}  // namespace espalier::ESPALIER_TIER
