// Tiles of the 32-wide types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

struct NibbleTile {
    static constexpr int kCode4 = 0;
    static constexpr int kUnitBlocks = 1, kUnitBytes = 256;
};
struct FiveBitTile {
    static constexpr int kCode4 = 0;
    static constexpr int kCode1 = 256;
    static constexpr int kUnitBlocks = 1, kUnitBytes = 320;
};
template <>
struct Tile<Q4_0> : NibbleTile {
    static constexpr int kTailBytes = 32;  // f16 d a row
};
template <>
struct Tile<Q4_1> : NibbleTile {
    static constexpr int kTailBytes = 64;  // f16 d a row, then f16 minimum a row
};
template <>
struct Tile<Q5_0> : FiveBitTile {
    static constexpr int kTailBytes = 32;
};
template <>
struct Tile<Q5_1> : FiveBitTile {
    static constexpr int kTailBytes = 64;
};
template <>
struct Tile<Q8_0> {
    static constexpr int kCode8 = 0;      // value + 128
    static constexpr int kUnitBlocks = 1, kUnitBytes = 512, kTailBytes = 32;  // tail: f16 d a row
};
template <>
struct Tile<Q6_0> {
    static constexpr int kCode4 = 0;
    static constexpr int kCode2 = 256;
    static constexpr int kUnitBlocks = 1, kUnitBytes = 384, kTailBytes = 32;
};

}  // namespace espalier
