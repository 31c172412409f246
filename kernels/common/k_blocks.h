// The K types: 256 weights under f16 factors with integer scales. Rule kBlockScale:
//   Q2_K:       dot_b = scale_lo * dot_lo + scale_hi * dot_hi, s_b = d; then the minimums:
//               fma(float(min_lo * sum_lo + min_hi * sum_hi), dx_b * -dmin, acc[p]).
//   Q4_K, Q5_K: dot_b = scale * dot, s_b = d; then the minimum: fma(float(min * sum_b), dx_b * -dmin, acc[p]).
//   Q3_K, Q6_K: dot_b = scale_lo * dot_lo + scale_hi * dot_hi, s_b = d.
#pragma once

#include "bit_planes.h"
#include "block32.h"

namespace espalier {

struct Q2_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 84;
    static constexpr bool kHasMin = true;

    static ESP_FN int scale(const uint8_t* block, int i) { return nibble(block[i], 0); }  // of 16 weights
    static ESP_FN int min(const uint8_t* block, int i) { return nibble(block[i], 1); }
    static ESP_FN int code(const uint8_t* block, int b, int j) { return two_bit_plane(block + 16, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block + 80), scale(block, 2 * b), scale(block, 2 * b + 1), out);
        out.min[0] = min(block, 2 * b);
        out.min[1] = min(block, 2 * b + 1);
        out.dmin = read_f16(block + 82);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j));
    }
};

struct Q3_K : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 110;

    // Sixteen six-bit scales: low nibbles of bytes 0..7 (scales 0..7), then their high nibbles (8..15); bits
    // 2s, 2s + 1 of bytes 8..11 are the upper two of scales 4s..4s + 3.
    static ESP_FN int scale(const uint8_t* block, int i) {
        const uint8_t* fields = block + 96;
        return (nibble(fields[i & 7], i >> 3) | (fields[8 + (i & 3)] >> (2 * (i >> 2)) & 3) << 4) - 32;
    }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        return two_bit_plane(block + 32, b, j) | bit_plane(block, b, j) << 2;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block + 108), scale(block, 2 * b), scale(block, 2 * b + 1), out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 4);
    }
};

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

}  // namespace espalier
