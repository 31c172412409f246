// How a matrix lies in memory for linear operations: row-lane tiles.
//
// A tile is 16 rows in one run of bytes. A 64-byte vector holds 16 rows x 4 columns: byte 4 * row + c is column c.
// "Panel vector" v = 0..7 of a 32-block is columns 4v..4v+3. Code bits are kept in planes of such vectors:
//   8-bit  one panel vector per vector                      4-bit  low nibbles panel vector 2m, high nibbles 2m + 1
//   2-bit  bits 2s, 2s+1 are panel vector 4m + s            1-bit  bit s is panel vector s
// Per-row bytes (scales) are 16 in a row, one a lane. Indices of the trellis are u16 [group][16 rows].
//
//   tile = row factors (16 f32 d, types with a row d; then 16 f32 means, types with a mean)
//        + body: one Tile<T>::kUnitBytes for each Tile<T>::kUnitBlocks 32-blocks. Where rows may have a tail (kTailNibbles),
//          a last unit of n blocks has the fields of a whole one, each n / kUnitBlocks as long and as far from its start
//        + tail: Tile<T>::kTailBytes for each 32-block, after all units
// The last tile of a matrix is filled up with zero rows. A tile's size is rounded up to 64 bytes.
// No type takes more than its file bytes + 10 %.
#pragma once

#include "cpu/tiles/layout_fp4.h"
#include "cpu/tiles/layout_iq.h"
#include "cpu/tiles/layout_iqk.h"
#include "cpu/tiles/layout_k.h"
#include "cpu/tiles/layout_kt.h"
#include "cpu/tiles/layout_legacy.h"
#include "cpu/tiles/layout_ternary.h"

namespace espalier {

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <class T>
constexpr int row_factor_bytes() {
    return T::kRule != Rule::kRowScale ? 0 : T::kHasMean ? 128 : 64;
}

// Where the parts of one tile begin.
template <class T>
constexpr int64_t tail_offset(int64_t n_blocks) {
    static_assert(Tile<T>::kUnitBytes % Tile<T>::kUnitBlocks == 0);
    return row_factor_bytes<T>() + n_blocks * (Tile<T>::kUnitBytes / Tile<T>::kUnitBlocks);
}

template <class T>
constexpr int64_t tile_bytes(int64_t n_blocks) {
    return round_up(tail_offset<T>(n_blocks) + n_blocks * Tile<T>::kTailBytes, 64);
}

}  // namespace espalier
