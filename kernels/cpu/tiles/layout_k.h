// Tiles of the K types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

template <>
struct Tile<Q2_K> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kScale = 1024;   // [b] 32: the file's byte, scale and minimum; columns 0..15, then 16..31
    static constexpr int kD = 1280;
    static constexpr int kDmin = 1312;
    static constexpr int kUnitBytes = 1344;
};
template <>
struct Tile<Q3_K> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kCode1 = 1024;   // [b] 64
    static constexpr int kScale = 1536;   // [b] 32
    static constexpr int kD = 1792;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1856;
};
template <>
struct Tile<Q4_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kScale = 2048;   // [b] 16
    static constexpr int kMin = 2176;     // [b] 16
    static constexpr int kD = 2304;
    static constexpr int kDmin = 2336;
    static constexpr int kUnitBytes = 2368;
};
template <>
struct Tile<Q5_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kCode1 = 2048;   // [b] 64
    static constexpr int kScale = 2560;   // [b] 16
    static constexpr int kMin = 2688;     // [b] 16
    static constexpr int kD = 2816;
    static constexpr int kDmin = 2848;
    static constexpr int kUnitBytes = 2880;
};
template <>
struct Tile<Q6_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kCode2 = 2048;   // [b] 128
    static constexpr int kScale = 3072;   // [b] 32
    static constexpr int kD = 3328;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 3392;
};

}  // namespace espalier
