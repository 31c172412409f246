// Tiles of the IQK types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

template <>
struct Tile<IQ2_K> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kScale = 1024;   // [b] 16: nibble scale + 8 of columns 0..15 low, 16..31 high
    static constexpr int kExtra = 1152;   // u16 a row
    static constexpr int kD = 1184;       // f16 a row
    static constexpr int kUnitBytes = 1216;
};
template <>
struct Tile<IQ3_K> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kCode1 = 1024;   // [b] 64
    static constexpr int kScale = 1536;   // [b] 32: columns 0..15, then 16..31
    static constexpr int kExtra = 1792;
    static constexpr int kD = 1824;
    static constexpr int kUnitBytes = 1856;
};
template <>
struct Tile<IQ4_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kScale = 2048;   // [b] 32
    static constexpr int kExtra = 2304;
    static constexpr int kD = 2336;
    static constexpr int kUnitBytes = 2368;
};
template <>
struct Tile<IQ4_KS> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kScale = 2048;   // [b] 16: the file's byte, scale and table bit
    static constexpr int kUnitBytes = 2176;
};

}  // namespace espalier
