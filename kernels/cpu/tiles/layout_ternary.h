// Tiles of the ternary types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

// The file's bytes of five digits (ternary_blocks.h), as panel vectors: 8 for the 32-blocks 0..4, 4 for the next five
// halves of a 32-block, 1 for the last half. Two bits a weight would take a fifth more than the file.
template <>
struct Tile<TQ1_0> : SuperBlockTile {
    static constexpr int kDigits = 0;        // [8] 64
    static constexpr int kDigitsHalf = 512;  // [4] 64
    static constexpr int kDigitsLast = 768;  // 64
    static constexpr int kD = 832;           // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 896;
};
template <>
struct Tile<TQ2_0> : SuperBlockTile {
    static constexpr int kCode2 = 0;  // [b] 128
    static constexpr int kD = 1024;   // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1088;
};

}  // namespace espalier
