// Rows of any type as float32, bit for bit the peer's own decoding (plain: no inference gain). This is what an
// embedding look-up reads. The orders of rounding are those of block32.h.
#pragma once

#include "tensor_types.h"

namespace espalier {

template <class T>
ESP_FN void dequantize_block32(const Block32& block, float row_d, float mean, float* out) {
    const float d = T::kRule == Rule::kRowScale ? row_d : block.d;
    const float scaled[2] = {d * float(block.scale[0]), d * float(block.scale[1])};
    const float minimum[2] = {block.dmin * float(block.min[0]), block.dmin * float(block.min[1])};
    for (int j = 0; j < 32; ++j) {
        const float value = bit(block.minus_zeros, j) ? -0.0f : float(block.q[j]) * T::kValueStep;
        if constexpr (T::kHasMean) {
            out[j] = fma_f32(scaled[j >> 4], value, mean);
        } else if constexpr (T::kHasMin) {
            out[j] = scaled[j >> 4] * value - minimum[j >> 4];
        } else {
            out[j] = scaled[j >> 4] * value;
        }
    }
}

// row: the bytes of one file row; n weights, a multiple of kRowMultiple; out [n].
template <class T>
ESP_FN void dequantize_quant_row(const uint8_t* row, int64_t n, float* out) {
    const float d = T::row_d(row), mean = T::row_mean(row);
    Block32 block;
    for (int64_t b = 0; b < n / 32; ++b) {
        decode_block32<T>(row, n, b, block);
        dequantize_block32<T>(block, d, mean, out + 32 * b);
    }
}

template <class T>
ESP_FN void dequantize_dense_row(const uint8_t* row, int64_t n, float* out) {
    for (int64_t k = 0; k < n; ++k) out[k] = T::value(row + k * T::kBytes);
}

ESP_FN void dequantize_row(TensorType type, const uint8_t* row, int64_t n, float* out) {
    switch (type) {
#define ESP_CASE(name) \
    case TensorType::name: return dequantize_dense_row<name>(row, n, out);
        ESP_DENSE_TYPES(ESP_CASE)
#undef ESP_CASE
#define ESP_CASE(name) \
    case TensorType::name: return dequantize_quant_row<name>(row, n, out);
        ESP_QUANT_TYPES(ESP_CASE)
#undef ESP_CASE
    }
}

}  // namespace espalier
