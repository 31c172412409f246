// What packing is made of: a value, a code, a type's codes or scales into the lane of a row.
// `block` is the file's block of one row, `unit` where the tile's unit begins, `row` the lane.
#pragma once

#include <cstring>

#include "cpu/tiles/layout.h"

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

// A unit's part of the tail: the f16 fields that a block begins with. Types with others overload this.
template <class T>
inline void pack_tail(T, const uint8_t* block, int row, uint8_t* tail) {
    for (int k = 0; k < Tile<T>::kTailBytes / 32; ++k) copy_lane_u16(tail + 32 * k, row, block + 2 * k);
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

}  // namespace espalier
