// TQ1_0 and TQ2_0: weights -1, 0, 1 (2 where TQ2_0 holds code 3) under the block's f16 d. Rule kBlockScale with scale
// 1: s_b = d.
#pragma once

#include "bit_planes.h"
#include "block32.h"
#include "tables.h"

namespace espalier {

struct TQ1_0 : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 54;

    // A byte is a fraction of 256 whose base-3 digits 0..4 are five codes: 32 bytes for the 32-blocks 0..4 (digit b),
    // 16 bytes for the next five runs of 16 weights, 4 bytes for the last four runs of 4.
    static ESP_FN int digit(uint8_t byte, int n) { return uint8_t(byte * kPowersOf3[n]) * 3 >> 8; }
    static ESP_FN int code(const uint8_t* block, int b, int j) {
        if (b < 5) return digit(block[j], b);
        const int run = 2 * (b - 5) + j / 16;
        if (run < 5) return digit(block[32 + (j & 15)], run);
        return digit(block[48 + (j & 3)], (j & 15) / 4);
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block + 52), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 1);
    }
};

struct TQ2_0 : PlainType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 66;

    static ESP_FN int code(const uint8_t* block, int b, int j) { return two_bit_plane(block, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(read_f16(block + 64), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = int16_t(code(block, b, j) - 1);
    }
};

}  // namespace espalier
