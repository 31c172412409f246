// How a matrix lies in memory for linear operations: row-lane tiles.
//
// A tile is 16 rows in one run of bytes. A 64-byte vector holds 16 rows x 4 columns: byte 4 * row + c is column c.
// "Panel vector" v = 0..7 of a 32-block is columns 4v..4v+3. Code bits are kept in planes of such vectors:
//   8-bit  one panel vector per vector                      4-bit  low nibbles panel vector 2m, high nibbles 2m + 1
//   2-bit  bits 2s, 2s+1 are panel vector 4m + s            1-bit  bit s is panel vector s
// Per-row bytes (scales) are 16 in a row, one a lane. Indices of the trellis are u16 [group][16 rows].
//
//   tile = row factors (16 f32 d, types with a row d; then 16 f32 means, types with a mean)
//        + body: one Tile<T>::kUnitBytes for each Tile<T>::kUnitBlocks 32-blocks
//        + tail: Tile<T>::kTailBytes for each 32-block, after all units
// The last tile of a matrix is filled up with zero rows. A tile's size is rounded up to 64 bytes.
// No type takes more than its file bytes + 10 %.
#pragma once

#include "common/tensor_types.h"

namespace espalier {

constexpr int kTileRows = 16;

template <class T>
struct Tile;

struct SuperBlockTile {
    static constexpr int kUnitBlocks = 8, kTailBytes = 0;
};

// Offsets inside a unit. `[b]` with its stride: the part of 32-block b = 0..7.
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
    static constexpr int kScale = 1024;   // [b] 16
    static constexpr int kUnitBytes = 1152;
};
struct TileIQ3KT : SuperBlockTile {
    static constexpr int kIndex = 0;      // [b] 128: 4 groups
    static constexpr int kSign = 1024;    // [b] 64: 1-bit plane
    static constexpr int kScale = 1536;   // [b] 16
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

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <class T>
constexpr int row_factor_bytes() {
    return T::kRule != Rule::kRowScale ? 0 : T::kHasMean ? 128 : 64;
}

// Where the parts of one tile begin.
template <class T>
constexpr int64_t tail_offset(int64_t n_blocks) {
    return row_factor_bytes<T>() + n_blocks / Tile<T>::kUnitBlocks * Tile<T>::kUnitBytes;
}

template <class T>
constexpr int64_t tile_bytes(int64_t n_blocks) {
    return round_up(tail_offset<T>(n_blocks) + n_blocks * Tile<T>::kTailBytes, 64);
}

}  // namespace espalier
