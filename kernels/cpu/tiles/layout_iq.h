// Tiles of the IQ types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

template <>
struct Tile<IQ3_S> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 8 groups of u8, the low index bits
    static constexpr int kHigh = 1024;    // [b] 16: bit i is index bit 8 of group i
    static constexpr int kSign = 1152;    // [b] 64: 1-bit plane
    static constexpr int kScale = 1664;   // [b] 16
    static constexpr int kD = 1792;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1856;
};

}  // namespace espalier
