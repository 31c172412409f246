// Cached keys and values as q8_0: int8 with one f16 scale for each 32 dimensions of a head, the last of which may be
// fewer. d = f16(amax / 127), rounded to nearest even; q = x / d rounded to nearest even, held to -127 .. 127 (a d
// that is subnormal in f16 may be rounded down by much). d = 0: q = 0. Numbers that are not finite, or whose d is
// beyond f16: q = 0, d = NaN, so that the sequence they belong to fails and no other.
// q * d is exact in float32, and it is what attention computes with.
#pragma once

#include "portability.h"

namespace espalier {

ESP_NUMBER int kKvScaleDims = 32;  // kernels/kv_type.py
ESP_NUMBER int kKvLargest = 127;
ESP_NUMBER float kKvLargestScale = 65520.0f;  // from here on a float rounds to infinity in f16
ESP_NUMBER uint16_t kKvNanScale = 0x7E00;

ESP_FN int64_t kv_scales(int64_t head_dim) { return (head_dim + kKvScaleDims - 1) / kKvScaleDims; }

}  // namespace espalier
