// The IQK types: codes into non-linear tables. An extra bit per scale block picks the table's shifted half.
// IQ2_K .. IQ6_K: integer scale per 16 weights under the block's f16 d. Rule kBlockScale:
//   dot_b = scale_lo * dot_lo + scale_hi * dot_hi in int32, s_b = d.
// KS, KSS, KL: integer scale per 32 weights under the row's d, f32 or f16. Rule kRowScale: s_b = scale.
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

struct IQ5_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 176;

    static ESP_FN int extra(const uint8_t* block, int i) { return bit(read_u16(block + 2), i); }
    static ESP_FN int scale(const uint8_t* block, int i) { return IQ4_K::scale(block, i); }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return nibbles_by_64(block + 16, b, j) | bit_plane(block + 144, b, j) << 4;
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable5[32 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk<IQ5_K>(block, b, out); }
};

struct IQ6_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 212;

    static ESP_FN int extra(const uint8_t* block, int i) { return bit(read_u16(block + 2), i); }
    static ESP_FN int scale(const uint8_t* block, int i) { return int8_t(block[4 + i]); }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return nibbles_by_64(block + 20, b, j) | two_bit_plane(block + 148, b, j) << 4;
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable6[64 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk<IQ6_K>(block, b, out); }
};

// The scale of 32-block b of T, and its 32 table values.
template <class T>
ESP_FN void decode_iqk_row_scaled(const uint8_t* block, int b, Block32& out) {
    set_row_scale(T::scale(block, b), out);
    for (int j = 0; j < 32; ++j) out.q[j] = T::value(T::code(block, b, j), T::extra(block, b));
}

// Low nibbles are the even 32-blocks; extra bits 0..7 choose the table half, 8..15 are the scales' fifth bits.
struct IQ2_KS : HalfRowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 70;

    static ESP_FN int extra(const uint8_t* block, int b) { return bit(read_u16(block), b); }
    static ESP_FN int scale(const uint8_t* block, int b) {
        return (nibble(block[2 + b / 2], b & 1) | bit(read_u16(block), 8 + b) << 4) - 16;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return two_bit_plane(block + 6, b, j); }
    static ESP_FN int8_t value(int code, int extra) { return kTable2[4 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk_row_scaled<IQ2_KS>(block, b, out); }
};

// Five-bit codes of two weights each: four bits as nibbles (32-blocks of even b low), the fifth in a plane.
struct IQ2_KL : HalfRowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 86;

    static ESP_FN int scale(const uint8_t* block, int b) {
        return (nibble(block[2 + (b & 3)], b >> 2) | (int(read_u16(block)) >> (2 * b) & 3) << 4) - 32;
    }
    // of weights 2p and 2p + 1 of 32-block b, p = 0..15
    static ESP_FN int pair_code(const uint8_t* block, int b, int p) {
        return nibble(block[6 + 16 * (b / 2) + p], b & 1) | bit(block[70 + p], b) << 4;
    }
    static ESP_FN int8_t value(int code, int second) { return kTableKL[32 * second + code]; }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        for (int j = 0; j < 32; ++j) out.q[j] = value(pair_code(block, b, j / 2), j & 1);
    }
};

// Unlike IQ2_KS: low nibbles are 32-blocks 0..3; extra bits 0..7 are the scales' fifth bits, 8..15 choose the half.
struct IQ3_KS : HalfRowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 102;

    static ESP_FN int extra(const uint8_t* block, int b) { return bit(read_u16(block), 8 + b); }
    static ESP_FN int scale(const uint8_t* block, int b) {
        return (nibble(block[2 + (b & 3)], b >> 2) | bit(read_u16(block), b) << 4) - 16;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return two_bit_plane(block + 6, b, j) | bit_plane(block + 70, b, j) << 2;
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable3[8 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk_row_scaled<IQ3_KS>(block, b, out); }
};

// Bit 0 of word k = 0..7 of a 32-block is bit k of a byte like IQ4_KS's; the other 15 bits of w, as w XOR (w >> 1),
// are four codes.
struct IQ4_KSS : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 128;

    static ESP_FN int scale_byte(const uint8_t* block, int b) {
        int byte = 0;
        for (int k = 0; k < 8; ++k) byte |= (block[16 * b + 2 * k] & 1) << k;
        return byte;
    }
    static ESP_FN int extra(const uint8_t* block, int b) { return scale_byte(block, b) & 1; }
    static ESP_FN int scale(const uint8_t* block, int b) { return (scale_byte(block, b) & 254) - 127; }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        const uint32_t word = read_u16(block + 16 * b + (j & 14)) & 0xFFFEu, bytes = word ^ word >> 1;
        return nibble(uint8_t(bytes >> (8 * (j & 1))), j >> 4);
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable4[16 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk_row_scaled<IQ4_KSS>(block, b, out); }
};

struct IQ4_KS : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 136;

    static ESP_FN int extra(const uint8_t* block, int b) { return block[b] & 1; }
    static ESP_FN int scale(const uint8_t* block, int b) { return (block[b] & 254) - 127; }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 8, b, j); }
    static ESP_FN int8_t value(int code, int extra) { return kTable4[16 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk_row_scaled<IQ4_KS>(block, b, out); }
};

struct IQ5_KS : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 168;

    static ESP_FN int extra(const uint8_t* block, int b) { return IQ4_KS::extra(block, b); }
    static ESP_FN int scale(const uint8_t* block, int b) { return IQ4_KS::scale(block, b); }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return nibbles_by_64(block + 8, b, j) | bit_plane(block + 136, b, j) << 4;
    }
    static ESP_FN int8_t value(int code, int extra) { return kTable5[32 * extra + code]; }
    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) { decode_iqk_row_scaled<IQ5_KS>(block, b, out); }
};

// int8 codes under the row's d, with no scale between: s_b = 1. The header's second field, the int32 sum of the
// row's codes, is the peer's and not needed here.
struct Q8_KV : RowScaledType {
    static constexpr int kHeaderBytes = 8;
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 32;

    static ESP_FN int code(const uint8_t* block, int, int j) { return int8_t(block[j]) + 128; }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 128);
    }
};

}  // namespace espalier
