// The orders in which 256-weight blocks of the IQK and K families spread their code bits.
// Each returns the bits of weight j = 0..31 of 32-block b.
#pragma once

#include "portability.h"

namespace espalier {

// 64 bytes: byte 32h + j, bits 2s..2s+1 are weight 128h + 32s + j.
ESP_FN int two_bit_plane(const uint8_t* plane, int b, int j) { return plane[32 * (b >> 2) + j] >> (2 * (b & 3)) & 3; }

// 32 bytes: bit b of byte j is weight 32b + j.
ESP_FN int bit_plane(const uint8_t* plane, int b, int j) { return bit(plane[j], b); }

// 128 bytes, 16 for each 32-block: low nibbles weights 0..15, high nibbles 16..31.
ESP_FN int nibbles_by_32(const uint8_t* codes, int b, int j) { return nibble(codes[16 * b + (j & 15)], j >> 4); }

// 128 bytes, 32 for each 64 weights: low nibbles the first 32-block, high nibbles the second.
ESP_FN int nibbles_by_64(const uint8_t* codes, int b, int j) { return nibble(codes[32 * (b >> 1) + j], b & 1); }

}  // namespace espalier
