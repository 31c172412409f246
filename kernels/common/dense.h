// The unquantized types: one value at a time as float32. Their linear keeps float32 activations and sums
//   acc[p] = fma(w[k], x[k], acc[p]), k ascending, p = ((k / 32) mod 8) / 2;  y = (acc0 + acc1) + (acc2 + acc3)
// for any row length: the chains of the quantized formula, one step per weight.
// kExponent: the bits that are all set in an infinity and a NaN, and only there.
#pragma once

#include "portability.h"

namespace espalier {

struct F32 {
    static constexpr int kBytes = 4;
    static constexpr uint32_t kExponent = 0x7F800000u;
    static ESP_FN uint32_t bits(const uint8_t* p) { return read_u32(p); }
    static ESP_FN float value(const uint8_t* p) { return read_f32(p); }
};

struct F16 {
    static constexpr int kBytes = 2;
    static constexpr uint32_t kExponent = 0x7C00u;
    static ESP_FN uint32_t bits(const uint8_t* p) { return read_u16(p); }
    static ESP_FN float value(const uint8_t* p) { return read_f16(p); }
};

struct BF16 {
    static constexpr int kBytes = 2;
    static constexpr uint32_t kExponent = 0x7F80u;
    static ESP_FN uint32_t bits(const uint8_t* p) { return read_u16(p); }
    static ESP_FN float value(const uint8_t* p) { return bf16_to_f32(read_u16(p)); }
};

}  // namespace espalier
