// File rows into the lanes of a tile: one overload of pack_unit for each field layout (tile_layout.h), told in
// terms of the accessors of kernels/common. Nothing is decoded but scales that fit a byte.
#pragma once

#include <cstring>

#include "cpu/tile_layout.h"

namespace espalier {

inline void put_u16(uint8_t* p, uint32_t value) {
    p[0] = uint8_t(value);
    p[1] = uint8_t(value >> 8);
}
inline void put_u32(uint8_t* p, uint32_t value) {
    put_u16(p, value);
    put_u16(p + 2, value >> 16);
}

// Code bits of column j = 0..31 of 32-block b, lane `row`, or'ed into a plane of kBits-bit codes.
template <int kBits>
inline void put_code(uint8_t* plane, int b, int row, int j, int code) {
    constexpr int kPerVector = 8 / kBits;  // panel vectors in one 64-byte vector
    const int v = j / 4;
    uint8_t& byte = plane[(b * kBits + v / kPerVector) * 64 + 4 * row + j % 4];
    byte = uint8_t(byte | code << (kBits * (v % kPerVector)));
}

inline void copy_lane_u16(uint8_t* lanes, int row, const uint8_t* field) { std::memcpy(lanes + 2 * row, field, 2); }

// block: the file's block of 256 (32) weights of one row; unit: where the tile's unit begins; row: the lane.
inline void pack_unit(IQ1_KT, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ1_KT>;
    for (int b = 0; b < 8; ++b) {
        const uint32_t i0 = IQ1_KT::index(block, 4 * b), i1 = IQ1_KT::index(block, 4 * b + 1);
        const uint32_t i2 = IQ1_KT::index(block, 4 * b + 2), i3 = IQ1_KT::index(block, 4 * b + 3);
        put_u32(unit + L::kLow + 64 * b + 4 * row, i0 | i1 << 13 | i3 << 26);
        put_u16(unit + L::kMid + 32 * b + 2 * row, i2 | (i3 >> 6 & 7u) << 13);
        unit[L::kTop + 16 * b + row] = uint8_t((block[b] & 15u) | i3 >> 9 << 4);
    }
}

template <class T>
inline void pack_groups_of_8(const uint8_t* block, int row, uint8_t* unit) {
    for (int g = 0; g < 32; ++g) put_u16(unit + Tile<T>::kIndex + 32 * g + 2 * row, T::index(block, g));
    for (int b = 0; b < 8; ++b) unit[Tile<T>::kScale + 16 * b + row] = uint8_t(T::scale(block, b));
}

template <class Trellis>
inline void pack_unit(IQ2_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    pack_groups_of_8<IQ2_KT>(block, row, unit);
}

template <class Trellis>
inline void pack_unit(IQ3_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    pack_groups_of_8<IQ3_KT>(block, row, unit);
    for (int b = 0; b < 8; ++b)
        for (int j = 0; j < 32; ++j) put_code<1>(unit + TileIQ3KT::kSign, b, row, j, IQ3_KT::sign(block, b, j));
}

template <class Trellis>
inline void pack_unit(IQ4_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    using L = TileIQ4KT;
    for (int g = 0; g < 64; ++g) {
        // The state index + 4096 + 32768 * bit equals (index | bit << 15) + 4096.
        const uint32_t state = IQ4_KT::index(block, g) + IQ4_KT::offset(block, g / 8) - kTrellisOffset;
        put_u16(unit + L::kIndex + 32 * g + 2 * row, state);
    }
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = uint8_t(IQ4_KT::scale(block, b));
}

template <class T, int kBits>
inline void pack_codes(uint8_t* plane, int shift, const uint8_t* block, int row) {
    constexpr int kMask = (1 << kBits) - 1;
    for (int b = 0; b < T::kBlockWeights / 32; ++b)
        for (int j = 0; j < 32; ++j) put_code<kBits>(plane, b, row, j, T::code(block, b, j) >> shift & kMask);
}

template <class T>
inline void pack_scale_pairs(const uint8_t* block, int row, uint8_t* unit) {
    for (int i = 0; i < 16; ++i) unit[Tile<T>::kScale + 16 * i + row] = uint8_t(T::scale(block, i));
}

inline void pack_unit(IQ2_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ2_K>;
    pack_codes<IQ2_K, 2>(unit + L::kCode2, 0, block, row);
    for (int b = 0; b < 8; ++b) {
        const int low = IQ2_K::scale(block, 2 * b) + 8, high = IQ2_K::scale(block, 2 * b + 1) + 8;
        unit[L::kScale + 16 * b + row] = uint8_t(low | high << 4);
    }
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ3_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ3_K>;
    pack_codes<IQ3_K, 2>(unit + L::kCode2, 0, block, row);
    pack_codes<IQ3_K, 1>(unit + L::kCode1, 2, block, row);
    pack_scale_pairs<IQ3_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ4_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_K>;
    pack_codes<IQ4_K, 4>(unit + L::kCode4, 0, block, row);
    pack_scale_pairs<IQ4_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ4_KS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_KS>;
    pack_codes<IQ4_KS, 4>(unit + L::kCode4, 0, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = block[b];
}

template <class T>
inline void pack_k_scales(const uint8_t* block, int row, uint8_t* unit) {
    for (int b = 0; b < 8; ++b) {
        unit[Tile<T>::kScale + 16 * b + row] = uint8_t(k_scale(block + 4, b));
        unit[Tile<T>::kMin + 16 * b + row] = uint8_t(k_min(block + 4, b));
    }
    copy_lane_u16(unit + Tile<T>::kD, row, block);
    copy_lane_u16(unit + Tile<T>::kDmin, row, block + 2);
}

inline void pack_unit(Q4_K, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q4_K, 4>(unit + Tile<Q4_K>::kCode4, 0, block, row);
    pack_k_scales<Q4_K>(block, row, unit);
}

inline void pack_unit(Q5_K, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q5_K, 4>(unit + Tile<Q5_K>::kCode4, 0, block, row);
    pack_codes<Q5_K, 1>(unit + Tile<Q5_K>::kCode1, 4, block, row);
    pack_k_scales<Q5_K>(block, row, unit);
}

inline void pack_unit(Q6_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<Q6_K>;
    pack_codes<Q6_K, 4>(unit + L::kCode4, 0, block, row);
    pack_codes<Q6_K, 2>(unit + L::kCode2, 4, block, row);
    pack_scale_pairs<Q6_K>(block, row, unit);
    copy_lane_u16(unit + L::kD, row, block + 208);
}

inline void pack_unit(IQ3_S, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ3_S>;
    for (int g = 0; g < 64; ++g) {
        const int index = IQ3_S::index(block, g);
        unit[L::kIndex + 16 * g + row] = uint8_t(index);
        uint8_t& high = unit[L::kHigh + 16 * (g / 8) + row];
        high = uint8_t(high | index >> 8 << (g % 8));
    }
    for (int b = 0; b < 8; ++b) {
        for (int j = 0; j < 32; ++j) put_code<1>(unit + L::kSign, b, row, j, IQ3_S::sign(block, b, j));
        unit[L::kScale + 16 * b + row] = uint8_t(IQ3_S::scale(block, b));
    }
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(Q8_0, const uint8_t* block, int row, uint8_t* unit) {
    for (int j = 0; j < 32; ++j) put_code<8>(unit + Tile<Q8_0>::kCode8, 0, row, j, Q8_0::value(block, j) + 128);
}

inline void pack_unit(Q6_0, const uint8_t* block, int row, uint8_t* unit) {
    for (int j = 0; j < 32; ++j) {
        const int code = Q6_0::value(block, j) + 32;
        put_code<4>(unit + Tile<Q6_0>::kCode4, 0, row, j, code & 15);
        put_code<2>(unit + Tile<Q6_0>::kCode2, 0, row, j, code >> 4);
    }
}

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
        if constexpr (Tile<T>::kTailBytes != 0) copy_lane_u16(tile + tail_offset<T>(n_blocks) + 32 * u, row, block);
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
