// Tiles of the KT types (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/tile.h"

namespace espalier {

template <>
struct Tile<IQ1_KT> : SuperBlockTile {
    // The four 13-bit indices of a row and 32-block: low[0..12] and low[13..25] hold the first two; mid[0..12] the
    // third; the fourth is low[26..31], mid[13..15] and the byte's bits 4..7, lowest first. Byte bits 0..3: scale code.
    static constexpr int kLow = 0;        // [b] 64: u32 a row
    static constexpr int kMid = 512;      // [b] 32: u16 a row
    static constexpr int kTop = 768;      // [b] 16: u8 a row
    static constexpr int kUnitBytes = 896;
};
struct TileIQ2KT : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 4 groups
    static constexpr int kScale = 1024;   // [b] 16: codes
    static constexpr int kUnitBytes = 1152;
};
struct TileIQ3KT : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 4 groups
    static constexpr int kSign = 1024;    // [b] 64: 1-bit plane
    static constexpr int kScale = 1536;   // [b] 16: codes, which are the scales
    static constexpr int kUnitBytes = 1664;
};
struct TileIQ4KT : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 256: 8 groups; index | offset bit << 15
    static constexpr int kScale = 2048;   // [b] 16
    static constexpr int kUnitBytes = 2176;
};
template <>
struct Tile<IQ2_KT> : TileIQ2KT {};
template <>
struct Tile<IQ2_KT_V1> : TileIQ2KT {};
template <>
struct Tile<IQ3_KT> : TileIQ3KT {};
template <>
struct Tile<IQ3_KT_V1> : TileIQ3KT {};
template <>
struct Tile<IQ4_KT> : TileIQ4KT {};
template <>
struct Tile<IQ4_KT_V1> : TileIQ4KT {};

}  // namespace espalier
