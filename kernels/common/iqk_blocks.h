// The IQK types: codes into non-linear tables. An extra bit per scale block picks the table's shifted half.
// IQ2_K, IQ3_K, IQ4_K: integer scale per 16 weights under the block's f16 d. Rule kBlockScale:
//   dot_b = scale_lo * dot_lo + scale_hi * dot_hi in int32, s_b = d.
// IQ4_KS: integer scale per 32 weights under the row's f32 d. Rule kRowScale: s_b = scale.
#pragma once

#include "bit_planes.h"
#include "block32.h"
#include "tables.h"

namespace espalier {

// The 16 sub-block scales of T around 32-block b, and its 32 table values.
template <class T>
ESP_FN void decode_iqk(const uint8_t* block, int b, Block32& out) {
    set_block_scale(read_f16(block), T::scale(block, 2 * b), T::scale(block, 2 * b + 1), out);
    for (int j = 0; j < 32; ++j) {
        out.q[j] = T::value(T::code(block, b, j), T::extra(block, 2 * b + (j >> 4)));
    }
}

struct IQ2_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 76;

    static ESP_FN int extra(const uint8_t* block, int i) { return bit(read_u16(block + 2), i); }
    static ESP_FN int scale(const uint8_t* block, int i) { return nibble(block[4 + i / 2], i & 1) - 8; }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return two_bit_plane(block + 12, b, j); }
    static ESP_FN int8_t value(int code, int extra) { return kTable2[4 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk<IQ2_K>(block, b, out); }
};

struct IQ3_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 110;

    static ESP_FN int extra(const uint8_t* block, int i) { return bit(read_u16(block + 2), i); }
    static ESP_FN int scale(const uint8_t* block, int i) {
        const int magnitude = 2 * nibble(block[6 + i / 2], i & 1) + 1;
        return bit(read_u16(block + 4), i) ? -magnitude : magnitude;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return two_bit_plane(block + 14, b, j) | bit_plane(block + 78, b, j) << 2;
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable3[8 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk<IQ3_K>(block, b, out); }
};

struct IQ4_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 144;

    static ESP_FN int extra(const uint8_t* block, int i) { return bit(read_u16(block + 2), i); }
    static ESP_FN int scale(const uint8_t* block, int i) {
        const int high = block[4 + i / 4] >> (2 * (i & 3)) & 3;
        return (nibble(block[8 + i / 2], i & 1) | high << 4) - 32;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 16, b, j); }
    static ESP_FN int8_t value(int code, int extra) { return kTable4[16 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk<IQ4_K>(block, b, out); }
};

struct IQ4_KS : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 136;

    static ESP_FN int extra(const uint8_t* block, int b) { return block[b] & 1; }
    static ESP_FN int scale(const uint8_t* block, int b) { return (block[b] & 254) - 127; }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 8, b, j); }
    static ESP_FN int8_t value(int code, int extra) { return kTable4[16 * extra + code]; }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        for (int j = 0; j < 32; ++j) out.q[j] = value(code(block, b, j), extra(block, b));
    }
};

}  // namespace espalier
