// File rows into the lanes of a tile. One overload of pack_unit(T, block, row, unit) for each field layout, in
// pack_*.h, told in terms of the accessors of kernels/common. Nothing is decoded but scales that fit a byte.
#pragma once

#include "cpu/tiles/pack_fp4.h"
#include "cpu/tiles/pack_iq.h"
#include "cpu/tiles/pack_iqk.h"
#include "cpu/tiles/pack_k.h"
#include "cpu/tiles/pack_kt.h"
#include "cpu/tiles/pack_legacy.h"
#include "cpu/tiles/pack_ternary.h"

namespace espalier {

// One file row into lane `row` of a zeroed tile.
template <class T>
inline void pack_row(const uint8_t* file_row, int64_t n_in, int row, uint8_t* tile) {
    const int64_t n_blocks = n_in / 32, n_units = n_blocks / Tile<T>::kUnitBlocks;
    if constexpr (T::kRule == Rule::kRowScale) {
        put_u32(tile + 4 * row, bits_from_float(T::row_d(file_row)));
        if constexpr (T::kHasMean) put_u32(tile + 64 + 4 * row, bits_from_float(T::row_mean(file_row)));
    }
    for (int64_t u = 0; u < n_units; ++u) {
        const uint8_t* block = file_row + T::kHeaderBytes + u * T::kBlockBytes;
        pack_unit(T{}, block, row, tile + row_factor_bytes<T>() + u * Tile<T>::kUnitBytes);
        pack_tail(T{}, block, row, tile + tail_offset<T>(n_blocks) + Tile<T>::kTailBytes * u);
    }
    if constexpr (T::kTailNibbles != 0) {
        const int n_rest = int(n_blocks % Tile<T>::kUnitBlocks);
        uint8_t* unit = tile + row_factor_bytes<T>() + n_units * Tile<T>::kUnitBytes;
        pack_row_tail(T{}, file_row + tail_start<T>(n_in), n_rest, row, unit);
    }
}

// Dense tiles: [n_in][16 rows] of the file's elements.
template <class T>
inline void pack_dense_row(const uint8_t* file_row, int64_t n_in, int row, uint8_t* tile) {
    for (int64_t k = 0; k < n_in; ++k) {
        std::memcpy(tile + (k * kTileRows + row) * T::kBytes, file_row + k * T::kBytes, T::kBytes);
    }
}

}  // namespace espalier
