// The K types and IQ3_S: 256 weights under f16 factors with integer scales. Rule kBlockScale:
//   Q4_K, Q5_K: dot_b = scale * dot, s_b = d; then the minimum: fma(float(min * sum_b), dx_b * -dmin, acc[p]).
//   Q6_K:       dot_b = scale_lo * dot_lo + scale_hi * dot_hi, s_b = d.
//   IQ3_S:      dot_b = (1 + 2 * code) * dot, s_b = d: the half-integer scale of this type is already doubled by its magnitudes.
#pragma once

#include "bit_planes.h"
#include "block32.h"
#include "tables.h"

namespace espalier {

// Scales and minimums of Q4_K and Q5_K: 12 bytes of six-bit fields. 32-blocks 0..3 use the low six bits of bytes
// b (scale) and 4 + b (minimum); 4..7 take their low nibble from byte 4 + b and their upper two bits from the top
// of bytes b - 4 and b.
ESP_FN int k_scale(const uint8_t* fields, int b) {
    return b < 4 ? fields[b] & 63 : nibble(fields[4 + b], 0) | (fields[b - 4] >> 6) << 4;
}
ESP_FN int k_min(const uint8_t* fields, int b) {
    return b < 4 ? fields[4 + b] & 63 : nibble(fields[4 + b], 1) | (fields[b] >> 6) << 4;
}

// d, dmin, scales and minimums of Q4_K and Q5_K lie at the same offsets.
ESP_FN void set_k_scales(const uint8_t* block, int b, Block32& out) {
    const int scale = k_scale(block + 4, b);
    set_block_scale(read_f16(block), scale, scale, out);
    out.min[0] = out.min[1] = k_min(block + 4, b);
    out.dmin = read_f16(block + 2);
}

struct Q4_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 144;
    static constexpr bool kHasMin = true;

    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_64(block + 16, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_k_scales(block, b, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j));
    }
};

struct Q5_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 176;
    static constexpr bool kHasMin = true;

    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return nibbles_by_64(block + 48, b, j) | bit_plane(block + 16, b, j) << 4;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_k_scales(block, b, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j));
    }
};

struct Q6_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 210;

    static ESP_FN int scale(const uint8_t* block, int i) { return int8_t(block[192 + i]); }  // of 16 weights

    // Low nibbles: 64 bytes for each 128 weights, 32-blocks 0, 1 in the low halves and 2, 3 in the high.
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        const int low = nibble(block[64 * (b >> 2) + 32 * (b & 1) + j], b >> 1 & 1);
        return low | two_bit_plane(block + 128, b, j) << 4;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block + 208), scale(block, 2 * b), scale(block, 2 * b + 1), out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 32);
    }
};

struct IQ3_S : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 110;

    static ESP_FN int scale(const uint8_t* block, int b) { return 1 + 2 * nibble(block[106 + b / 2], b & 1); }

    // 9-bit grid index of the four weights of group g = 0..63
    static ESP_FN int index(const uint8_t* block, int g) { return block[2 + g] | bit(block[66 + g / 8], g & 7) << 8; }
    static ESP_FN int magnitude(int index, int k) { return 2 * (kGridIQ3S[index] >> (4 * k) & 15) + 1; }
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(block[74 + 4 * b + j / 8], j & 7); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), scale(block, b), scale(block, b), out);
        for (int j = 0; j < 32; ++j) {
            const int value = magnitude(index(block, 8 * b + j / 4), j & 3);
            out.q[j] = int16_t(sign(block, b, j) ? -value : value);
        }
    }
};

}  // namespace espalier
