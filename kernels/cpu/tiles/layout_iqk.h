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
template <>
struct Tile<IQ4_KSS> : Tile<IQ4_KS> {};   // codes and scale byte as they are meant, not as they are stored
template <>
struct Tile<IQ5_KS> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kCode1 = 2048;   // [b] 64
    static constexpr int kScale = 2560;   // [b] 16: the file's byte, scale and table bit
    static constexpr int kUnitBytes = 2688;
};
template <>
struct Tile<IQ5_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kCode1 = 2048;   // [b] 64
    static constexpr int kScale = 2560;   // [b] 32: columns 0..15, then 16..31
    static constexpr int kExtra = 2816;
    static constexpr int kD = 2848;
    static constexpr int kUnitBytes = 2880;
};
template <>
struct Tile<IQ6_K> : SuperBlockTile {
    static constexpr int kCode4 = 0;      // [b] 256
    static constexpr int kCode2 = 2048;   // [b] 128
    static constexpr int kScale = 3072;   // [b] 32
    static constexpr int kExtra = 3328;
    static constexpr int kD = 3360;
    static constexpr int kUnitBytes = 3392;
};
template <>
struct Tile<IQ2_KS> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kScale = 1024;   // [b] 16: bits 0..4 scale + 16, bit 5 the table half
    static constexpr int kUnitBytes = 1152;
};
template <>
struct Tile<IQ3_KS> : SuperBlockTile {
    static constexpr int kCode2 = 0;      // [b] 128
    static constexpr int kCode1 = 1024;   // [b] 64
    static constexpr int kScale = 1536;   // [b] 16: as IQ2_KS
    static constexpr int kUnitBytes = 1664;
};
template <>
struct Tile<IQ2_KL> : SuperBlockTile {
    // A panel vector is two pairs a row, and 16-bit half h of a lane is for pair 2v + h. Nibble s of a half of
    // vector m: four bits of panel vector v = 4m + s. Fifth bits: byte h of a row's u16, bit v.
    static constexpr int kPair4 = 0;      // [b] 128
    static constexpr int kPair1 = 1024;   // [b] 32
    static constexpr int kScale = 1280;   // [b] 16
    static constexpr int kUnitBytes = 1408;
};
template <>
struct Tile<Q8_KV> {
    static constexpr int kCode8 = 0;      // value + 128
    static constexpr int kUnitBlocks = 1, kUnitBytes = 512, kTailBytes = 0;
};

}  // namespace espalier
