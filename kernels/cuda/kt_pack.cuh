// Repacks file rows of IQ1_KT .. IQ4_KT into tiles (kt_tiles.cuh).
//   rows   n_rows file rows, the first of them row first_row of the matrix (a multiple of 16)
//   tiles  the whole matrix's tiles and d
//   grid   (n_in / 256, ceil(n_rows / 16))   block 32: one tile, one lane of it a thread
// Runs once per tensor behind the copy from the host, which it easily outruns.
#pragma once

#include "cuda/kt_tiles.cuh"

namespace espalier {

template <class T>
ESP_FN LaneFields lane_fields(const uint8_t* rows, int n_rows, int n_in, int first_row, int s, int p, int t) {
    LaneFields f{};
    for (int h = 0; h < 2; ++h) {
        const int row = first_row + 8 * h;
        if (row >= n_rows) continue;
        const uint8_t* block = rows + row * row_bytes<T>(n_in) + T::kHeaderBytes + int64_t(s) * T::kBlockBytes;
        for (int i = 0; i < 2; ++i) {
            const int b = 2 * p + i;
            if constexpr (T::kGroupWeights == 4) {
                const uint32_t offset_bit = T::offset(block, b) == kTrellisOffsetHigh ? 1u << 15 : 0u;
                for (int group = 0; group < 2; ++group)
                    f.index[h][i][group] = T::index(block, 8 * b + 2 * t + group) | offset_bit;
            } else {
                f.index[h][i][0] = T::index(block, 4 * b + t);
            }
            if constexpr (KtPlane<T>::kSigned)
                for (int k = 0; k < 8; ++k) f.signs[h][i] |= uint32_t(T::sign(block, b, 8 * t + k)) << k;
        }
    }
    return f;
}

template <class T>
ESP_FN uint32_t scale_codes(const uint8_t* rows, int n_rows, int n_in, int first_row, int s, int p) {
    uint32_t codes = 0;
    for (int n = 0; n < 4; ++n) {
        const int row = first_row + 8 * (n >> 1);
        if (row >= n_rows) continue;
        const uint8_t* block = rows + row * row_bytes<T>(n_in) + T::kHeaderBytes + int64_t(s) * T::kBlockBytes;
        codes |= KtScaleRule<T>::code(block, 2 * p + (n & 1)) << (KtScales<T>::kBits * n);
    }
    return codes;
}

template <class T>
ESP_FN void kt_pack_tile(const uint8_t* rows, int n_rows, int first_row, uint8_t* tiles, int n_out, int n_in) {
    const KtTiles<T> matrix(tiles, n_out, n_in);
    const int lane = threadIdx.x, g = lane >> 2, t = lane & 3, s = blockIdx.x;
    const int tile_row = first_row / kTileRows + blockIdx.y, row = blockIdx.y * kTileRows;  // row: among `rows`
    uint8_t* tile = const_cast<uint8_t*>(matrix.tile(tile_row, s));
    for (int p = 0; p < kPlanes; ++p) {
        KtPlane<T>::store(tile, p, lane, lane_fields<T>(rows, n_rows, n_in, row + g, s, p, t));
        if (t == 0) KtScales<T>::store(tile, p, g, scale_codes<T>(rows, n_rows, n_in, row + g, s, p));
    }
    if (s == 0 && lane < kTileRows) {
        const bool there = row + lane < n_rows;
        const_cast<float*>(matrix.d)[tile_row * kTileRows + lane] =
            there ? T::row_d(rows + (row + lane) * row_bytes<T>(n_in)) : 0.0f;
    }
}

}  // namespace espalier
