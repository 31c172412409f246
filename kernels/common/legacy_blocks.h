// Types of 32 weights under one f16 factor, with no integer scale. Rule kBlockScale with scale 1: s_b = d.
#pragma once

#include "block32.h"

namespace espalier {

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
