// MXFP4: 32 four-bit floats under a power of two. Rule kBlockScale with scale 1: s_b = d, the power halved, as the values
// of kTableFP4 are doubled.
#pragma once

#include "bit_planes.h"
#include "block32.h"
#include "tables.h"

namespace espalier {

// 2^(code - 128) from an exponent byte: the two smallest are subnormal, and 255 is a power like any other.
ESP_FN float half_of_e8m0(uint32_t code) {
    return float_from_bits(code < 2 ? 0x00200000u << code : (code - 1) << 23);
}

struct MXFP4 : PlainType {
    static constexpr int kBlockWeights = 32;
    static constexpr int kBlockBytes = 17;
    static constexpr float kLargestCode = kLargestFP4;

    static ESP_FN int code(const uint8_t* block, int b, int j) { return nibbles_by_32(block + 1, b, j); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_block_scale(half_of_e8m0(block[0]), 1, 1, out);
        for (int j = 0; j < 32; ++j) out.q[j] = kTableFP4[code(block, b, j)];
    }
};

}  // namespace espalier
