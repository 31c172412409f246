// IQ1_S and IQ1_M: an index into a grid of eight values -1, 0, 1 each, all moved by +-1/8.
// A weight is d * scale * (grid +- 1/8). Here it enters as q = 8 * grid +- 1 under d / 8, which is exact. Rule kBlockScale:
//   IQ1_S: dot_b = scale * dot, s_b = d / 8           IQ1_M: dot_b = scale_lo * dot_lo + scale_hi * dot_hi, s_b = d / 8
// IQ1_S_32 and IQ1_M_32 are what the rows of IQ1_S_R4 and IQ1_M_R4 hold once they are no longer interleaved: blocks of 32
// weights under one d a row (kRowScale). No file has them as such.
#pragma once

#include "block32.h"
#include "tables_grids.h"

namespace espalier {

// Weight k = 0..7 of a grid entry, in eighths.
ESP_FN int iq1_value(int index, int k, int minus_delta) {
    return 8 * int(kGridIQ1[index] >> (2 * k) & 3) - 8 + (minus_delta ? -1 : 1);
}

// The four groups of 32-block b.
template <class T>
ESP_FN void decode_iq1(const uint8_t* block, int b, Block32& out) {
    for (int j = 0; j < 32; ++j) {
        const int g = 4 * b + j / 8;
        out.q[j] = int16_t(iq1_value(T::index(block, g), j & 7, T::minus_delta(block, g)));
    }
}

struct IQ1_S : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 50;
    static constexpr float kDStep = 0.125f;

    // Of a 32-block: the upper three index bits of its four groups, three bits of scale, the sign of the move.
    static ESP_FN uint32_t word(const uint8_t* block, int b) { return read_u16(block + 34 + 2 * b); }
    static ESP_FN int index(const uint8_t* block, int g) {
        return block[2 + g] | int(word(block, g / 4) >> (3 * (g & 3)) & 7u) << 8;
    }
    static ESP_FN int minus_delta(const uint8_t* block, int g) { return bit(word(block, g / 4), 15); }
    static ESP_FN int scale(const uint8_t* block, int b) { return 1 + 2 * int(word(block, b) >> 12 & 7u); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, b), scale(block, b), out);
        decode_iq1<IQ1_S>(block, b, out);
    }
};

struct IQ1_S_32 : HalfRowScaledType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 6;
    static ESP_FN float row_d(const uint8_t* row) { return read_f16(row) * IQ1_S::kDStep; }

    // Four low index bytes, then a word with the fields of IQ1_S's.
    static ESP_FN uint32_t word(const uint8_t* block) { return read_u16(block + 4); }
    static ESP_FN int index(const uint8_t* block, int g) { return block[g] | int(word(block) >> (3 * g) & 7u) << 8; }
    static ESP_FN int minus_delta(const uint8_t* block, int) { return bit(word(block), 15); }
    static ESP_FN int scale(const uint8_t* block) { return 1 + 2 * int(word(block) >> 12 & 7u); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block), out);
        decode_iq1<IQ1_S_32>(block, b, out);
    }
};

struct IQ1_M_32 : HalfRowScaledType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 7;
    static constexpr bool kScalesInDot = true;
    static ESP_FN float row_d(const uint8_t* row) { return read_f16(row) * 0.125f; }

    // Four low index bytes, a nibble a group as in IQ1_M, then both scales, 0..15 as they are (IQ1_M's are odd).
    static ESP_FN int field(const uint8_t* block, int g) { return nibble(block[4 + g / 2], g & 1); }
    static ESP_FN int index(const uint8_t* block, int g) { return block[g] | (field(block, g) & 7) << 8; }
    static ESP_FN int minus_delta(const uint8_t* block, int g) { return field(block, g) >> 3; }
    static ESP_FN int scale(const uint8_t* block, int i) { return nibble(block[6], i); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scales(scale(block, 0), scale(block, 1), out);
        decode_iq1<IQ1_M_32>(block, b, out);
    }
};

struct IQ1_M : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 56;
    static constexpr float kDStep = 0.125f;

    // Nibble g: the upper three index bits of group g, the sign of its move.
    static ESP_FN int field(const uint8_t* block, int g) { return nibble(block[32 + g / 2], g & 1); }
    static ESP_FN int index(const uint8_t* block, int g) { return block[g] | (field(block, g) & 7) << 8; }
    static ESP_FN int minus_delta(const uint8_t* block, int g) { return field(block, g) >> 3; }
    // Four words of four three-bit scales; their upper nibbles make the f16 d.
    static ESP_FN uint32_t word(const uint8_t* block, int k) { return read_u16(block + 48 + 2 * k); }
    static ESP_FN int scale(const uint8_t* block, int i) { return 1 + 2 * int(word(block, i >> 2) >> (3 * (i & 3)) & 7u); }
    static ESP_FN uint32_t d_bits(const uint8_t* block) {
        uint32_t bits = 0;
        for (int k = 0; k < 4; ++k) bits |= word(block, k) >> 12 << (4 * k);
        return bits;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(f16_to_f32(d_bits(block)) * kDStep, scale(block, 2 * b), scale(block, 2 * b + 1), out);
        decode_iq1<IQ1_M>(block, b, out);
    }
};

}  // namespace espalier
