// Tiles of the IQ types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/layout_legacy.h"

namespace espalier {

// Grid types keep a plane of their signs. Scales s = 1 + 2 * code are kept as codes where that saves bytes.
template <>
struct Tile<IQ2_XXS> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 64: 4 groups of u8
    static constexpr int kSign = 512;     // [b] 64: 1-bit plane
    static constexpr int kScale = 1024;   // [b / 2] 16: scale codes of an even and an odd 32-block, low and high nibble
    static constexpr int kD = 1088;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1152;
};
template <>
struct Tile<IQ2_XS> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 64: 4 groups of u8, the low index bits
    static constexpr int kSign = 512;     // [b] 64: 1-bit plane
    static constexpr int kScale = 1024;   // [b] 16: the file's byte, scale codes of columns 0..15 low, 16..31 high
    static constexpr int kHigh = 1152;    // [b / 2] 16: bit 4 * (b mod 2) + i is index bit 8 of group i
    static constexpr int kD = 1216;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1280;
};
template <>
struct Tile<IQ2_S> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 64: 4 groups of u8, the low index bits
    static constexpr int kSign = 512;     // [b] 64: 1-bit plane
    static constexpr int kScale = 1024;   // [b] 16: as in IQ2_XS
    static constexpr int kHigh = 1152;    // [b] 16: bits 2i, 2i + 1 are index bits 8, 9 of group i
    static constexpr int kD = 1280;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1344;
};
template <>
struct Tile<IQ3_XXS> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 8 groups of u8
    static constexpr int kSign = 1024;    // [b] 64: 1-bit plane
    static constexpr int kScale = 1536;   // [b / 2] 16: as in IQ2_XXS
    static constexpr int kD = 1600;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1664;
};
template <>
struct Tile<IQ3_S> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 8 groups of u8, the low index bits
    static constexpr int kHigh = 1024;    // [b] 16: bit i is index bit 8 of group i
    static constexpr int kSign = 1152;    // [b] 64: 1-bit plane
    static constexpr int kScale = 1664;   // [b] 16
    static constexpr int kD = 1792;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 1856;
};
template <>
struct Tile<IQ4_NL> : NibbleTile {
    static constexpr int kTailBytes = 32;  // f16 d a row
};
template <>
struct Tile<IQ4_XS> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kScale = 2048;   // [b] 16
    static constexpr int kD = 2176;       // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 2240;
};
template <>
struct Tile<IQ1_S> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 64: 4 groups of u8, the low index bits
    static constexpr int kWord = 512;     // [b] 32: the file's u16 (iq1_blocks.h) a row
    static constexpr int kD = 768;        // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 832;
};
template <>
struct Tile<IQ1_S_32> {
    static constexpr int kIndex = 0;      // 64: 4 groups of u8, the low index bits
    static constexpr int kWord = 64;      // 32: the file's u16 (iq1_blocks.h) a row
    static constexpr int kUnitBlocks = 1, kUnitBytes = 96, kTailBytes = 0;
};
template <>
struct Tile<IQ1_M_32> {
    static constexpr int kIndex = 0;      // 64: 4 groups of u8, the low index bits
    static constexpr int kWord = 64;      // 32: u16 a row, nibble i the file's of group i (iq1_blocks.h)
    static constexpr int kUnitBlocks = 1, kUnitBytes = 96, kTailBytes = 16;  // tail: scales of columns 0..15 low, 16..31 high
};
template <>
struct Tile<IQ1_M> : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 64: 4 groups of u8, the low index bits
    static constexpr int kWord = 512;     // [b] 32: u16 a row, nibble i the file's of group i (iq1_blocks.h)
    static constexpr int kScale = 768;    // [b] 16: scale codes of columns 0..15 low, 16..31 high
    static constexpr int kD = 896;        // f16 a row, then 32 bytes that keep units on cache lines
    static constexpr int kUnitBytes = 960;
};

}  // namespace espalier
