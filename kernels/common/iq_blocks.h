// The IQ types of 2 and more bits. IQ2 and IQ3 keep an index into a grid of magnitudes for 8 (IQ3: 4) weights, and
// signs; IQ4 keeps codes into kTable4. Rule kBlockScale:
//   IQ2_XXS, IQ3_XXS:        dot_b = scale * dot
//   IQ2_XS, IQ2_S:           dot_b = scale_lo * dot_lo + scale_hi * dot_hi
//   IQ3_S, IQ4_XS:           dot_b = scale * dot, s_b = the block's f16 d
//   IQ4_NL:                  32 weights under one f16 d, scale 1, s_b = d
// The scales of IQ2 (IQ3_XXS) are defined as d * (0.5 + code) / 4 (/ 2). Here scale = 1 + 2 * code and s_b = d * kDStep,
// a power of two that makes it the same: all of these products are exact in float32, so the order does not matter.
#pragma once

#include "bit_planes.h"
#include "block32.h"
#include "tables.h"
#include "tables_grids.h"

namespace espalier {

// Eight signs stored as seven bits: the eighth makes their number even.
ESP_FN int even_signs(int code) {
    int parity = code ^ code >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return code | (parity & 1) << 7;
}

// IQ2_XXS and IQ3_XXS: 32 bits for a 32-block, four sign codes of seven bits under a scale code of four.
ESP_FN int xxs_signs(uint32_t word, int group) { return even_signs(int(word >> (7 * group) & 127u)); }
ESP_FN int xxs_scale(uint32_t word) { return 1 + 2 * int(word >> 28); }

// The four groups of eight weights around 32-block b of an IQ2 type.
template <class T>
ESP_FN void decode_iq2(const uint8_t* block, int b, Block32& out) {
    for (int j = 0; j < 32; ++j) {
        const int value = T::magnitude(T::index(block, 4 * b + j / 8), j & 7);
        out.q[j] = int16_t(T::sign(block, b, j) ? -value : value);
    }
}

struct IQ2_XXS : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 66;
    static constexpr float kDStep = 0.125f;

    static ESP_FN uint32_t word(const uint8_t* block, int b) { return read_u32(block + 6 + 8 * b); }
    static ESP_FN int scale(const uint8_t* block, int b) { return xxs_scale(word(block, b)); }
    static ESP_FN int index(const uint8_t* block, int g) { return block[2 + 8 * (g >> 2) + (g & 3)]; }
    static ESP_FN int magnitude(int index, int k) { return kMagnitudesIQ2[kGridIQ2XXS[index] >> (2 * k) & 3]; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(xxs_signs(word(block, b), j / 8), j & 7); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, b), scale(block, b), out);
        decode_iq2<IQ2_XXS>(block, b, out);
    }
};

struct IQ2_XS : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 74;
    static constexpr float kDStep = 0.125f;

    static ESP_FN int scale(const uint8_t* block, int i) { return 1 + 2 * nibble(block[66 + i / 2], i & 1); }
    static ESP_FN int index(const uint8_t* block, int g) { return int(read_u16(block + 2 + 2 * g) & 511u); }
    static ESP_FN int magnitude(int index, int k) { return kMagnitudesIQ2[kGridIQ2XS[index] >> (2 * k) & 3]; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) {
        return bit(even_signs(block[3 + 2 * (4 * b + j / 8)] >> 1), j & 7);
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, 2 * b), scale(block, 2 * b + 1), out);
        decode_iq2<IQ2_XS>(block, b, out);
    }
};

struct IQ2_S : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 82;
    static constexpr float kDStep = 0.125f;

    static ESP_FN int scale(const uint8_t* block, int i) { return 1 + 2 * nibble(block[74 + i / 2], i & 1); }
    static ESP_FN int index(const uint8_t* block, int g) {
        return block[2 + g] | (block[66 + g / 4] >> (2 * (g & 3)) & 3) << 8;
    }
    static ESP_FN int magnitude(int index, int k) { return kMagnitudesIQ2[kGridIQ2S[index] >> (2 * k) & 3]; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(block[34 + 4 * b + j / 8], j & 7); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, 2 * b), scale(block, 2 * b + 1), out);
        decode_iq2<IQ2_S>(block, b, out);
    }
};

// The eight groups of four weights around 32-block b of an IQ3 type.
template <class T>
ESP_FN void decode_iq3(const uint8_t* block, int b, Block32& out) {
    for (int j = 0; j < 32; ++j) {
        const int value = T::magnitude(T::index(block, 8 * b + j / 4), j & 3);
        out.q[j] = int16_t(T::sign(block, b, j) ? -value : value);
    }
}

struct IQ3_XXS : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 98;
    static constexpr float kDStep = 0.25f;

    static ESP_FN uint32_t word(const uint8_t* block, int b) { return read_u32(block + 66 + 4 * b); }
    static ESP_FN int scale(const uint8_t* block, int b) { return xxs_scale(word(block, b)); }
    static ESP_FN int index(const uint8_t* block, int g) { return block[2 + g]; }
    static ESP_FN int magnitude(int index, int k) { return kMagnitudesIQ3XXS[kGridIQ3XXS[index] >> (4 * k) & 15]; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(xxs_signs(word(block, b), j / 8), j & 7); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, b), scale(block, b), out);
        decode_iq3<IQ3_XXS>(block, b, out);
    }
};

struct IQ3_S : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 110;
    static constexpr float kDStep = 1.0f;

    static ESP_FN int scale(const uint8_t* block, int b) { return 1 + 2 * nibble(block[106 + b / 2], b & 1); }

    // 9-bit grid index of the four weights of group g = 0..63
    static ESP_FN int index(const uint8_t* block, int g) { return block[2 + g] | bit(block[66 + g / 8], g & 7) << 8; }
    static ESP_FN int magnitude(int index, int k) { return kMagnitudesIQ3S[kGridIQ3S[index] >> (4 * k) & 15]; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(block[74 + 4 * b + j / 8], j & 7); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block) * kDStep, scale(block, b), scale(block, b), out);
        decode_iq3<IQ3_S>(block, b, out);
    }
};

struct IQ4_NL : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 18;

    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 2, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = kTable4[code(block, b, j)];
    }
};

struct IQ4_XS : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 136;

    static ESP_FN int scale(const uint8_t* block, int b) {
        return (nibble(block[4 + b / 2], b & 1) | int(read_u16(block + 2) >> (2 * b) & 3u) << 4) - 32;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 8, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), scale(block, b), scale(block, b), out);
        for (int j = 0; j < 32; ++j) out.q[j] = kTable4[code(block, b, j)];
    }
};

}  // namespace espalier
