// Weights as the file has them: rows of header and blocks, decoded through kernels/common. Every quantized type can lie
// so in device memory; a kernel over "weights" needs these members and nothing else (kt_tiles.cuh has the same).
#pragma once

#include "common/tensor_types.h"

namespace espalier {

template <class T>
struct FileRows {
    using Type = T;

    const uint8_t* data;
    int64_t row_stride;  // bytes
    int n_in;

    ESP_FN FileRows(const uint8_t* rows, int, int n_in) : data(rows), row_stride(row_bytes<T>(n_in)), n_in(n_in) {}

    // 32-block b of a row.
    ESP_FN void decode(int row, int b, Block32& out) const { decode_block32<T>(data + row * row_stride, n_in, b, out); }
    ESP_FN float row_d(int row) const { return T::row_d(data + row * row_stride); }
    ESP_FN float row_mean(int row) const { return T::row_mean(data + row * row_stride); }
};

}  // namespace espalier
