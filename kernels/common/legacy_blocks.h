// Types of 32 weights under one f16 factor, with no integer scale. Rule kBlockScale with scale 1: s_b = d.
// Q4_1 and Q5_1 add an f16 minimum m to every weight: min = 1 with dmin = -m, so fma(float(sum_b), dx_b * m, acc[p])
// follows.
#pragma once

#include "block32.h"

namespace espalier {

// Code bits 0..3 of weight j, from 16 bytes: low nibbles weights 0..15, high nibbles 16..31.
ESP_FN int low_nibble_of(const uint8_t* codes, int j) { return nibble(codes[j & 15], j >> 4); }

ESP_FN void set_legacy_min(float m, Block32& out) {
    out.min[0] = out.min[1] = 1;
    out.dmin = -m;
}

struct Q4_0 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 18;

    static ESP_FN int code(const uint8_t* block, int, int j) { return low_nibble_of(block + 2, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 8);
    }
};

struct Q4_1 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 20;
    static constexpr bool kHasMin = true;

    static ESP_FN int code(const uint8_t* block, int, int j) { return low_nibble_of(block + 4, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        set_legacy_min(read_f16(block + 2), out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j));
    }
};

struct Q5_0 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 22;

    static ESP_FN int code(const uint8_t* block, int, int j) {
        return low_nibble_of(block + 6, j) | bit(read_u32(block + 2), j) << 4;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 16);
    }
};

struct Q5_1 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 24;
    static constexpr bool kHasMin = true;

    static ESP_FN int code(const uint8_t* block, int, int j) {
        return low_nibble_of(block + 8, j) | bit(read_u32(block + 4), j) << 4;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        set_legacy_min(read_f16(block + 2), out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j));
    }
};

struct Q8_0 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 34;

    static ESP_FN int value(const uint8_t* block, int j) { return int8_t(block[2 + j]); }

    static ESP_FN void decode(const uint8_t* block, int, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(value(block, j));
    }
};

struct Q6_0 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 26;

    // Four low bits as nibbles (weights 0..15 low, 16..31 high); two high bits of weights j and 16 + j share the
    // nibble j / 8 of byte 2 + j mod 8.
    static ESP_FN int value(const uint8_t* block, int j) {
        const int k = j & 15, upper = j >> 4;
        const int pair = nibble(block[2 + (k & 7)], k >> 3);
        return (nibble(block[10 + k], upper) | (pair >> (2 * upper) & 3) << 4) - 32;
    }

    static ESP_FN void decode(const uint8_t* block, int, Block32& out) {
        set_block_scale(read_f16(block), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(value(block, j));
    }
};

}  // namespace espalier
