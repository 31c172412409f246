// Whether the floats of a file's row are numbers: what a loader asks before it trusts one. A quantized row holds few
// floats, its header's and one or two a block; the integers that decode() forms besides are dead code here, and the
// compiler drops them.
#pragma once

#include "tensor_types.h"

namespace espalier {

template <class T>
ESP_FN bool bits_are_finite(uint32_t bits) {
    return (bits & T::kExponent) != T::kExponent;
}
ESP_FN bool is_finite(float x) { return bits_are_finite<F32>(bits_from_float(x)); }

// row: the bytes of one file row; n weights, a multiple of kRowMultiple.
template <class T>
ESP_FN bool quant_row_is_finite(const uint8_t* row, int64_t n) {
    bool finite = is_finite(T::row_d(row)) && is_finite(T::row_mean(row));
    Block32 block;
    for (int64_t b = 0; b < n / 32; ++b) {
        decode_block32<T>(row, n, b, block);
        finite = finite && is_finite(block.d * T::kLargestCode) && is_finite(block.dmin);
    }
    return finite;
}

template <class T>
ESP_FN bool dense_row_is_finite(const uint8_t* row, int64_t n) {
    bool finite = true;
    for (int64_t k = 0; k < n; ++k) finite &= bits_are_finite<T>(T::bits(row + k * T::kBytes));
    return finite;
}

ESP_FN bool row_is_finite(TensorType type, const uint8_t* row, int64_t n) {
    switch (type) {
#define ESP_CASE(name) \
    case TensorType::name: return dense_row_is_finite<name>(row, n);
        ESP_DENSE_TYPES(ESP_CASE)
#undef ESP_CASE
#define ESP_CASE(name) \
    case TensorType::name: return quant_row_is_finite<name>(row, n);
        ESP_QUANT_TYPES(ESP_CASE)
#undef ESP_CASE
    }
    return false;
}

}  // namespace espalier
