// A weight as the CPU backend holds it for linear operations: row-lane tiles in memory of its own.
#pragma once

#include <cstdint>

#include "cpu/guarded_memory.h"
#include "cpu/kernels.h"

namespace espalier {

class PackedMatrix {
public:
    // Zeroed tiles for a matrix of that type. Throws std::invalid_argument where n_in is not whole blocks,
    // std::bad_alloc where memory is short.
    PackedMatrix(TensorType type, int64_t n_out, int64_t n_in);
    PackedMatrix(const PackedMatrix&) = delete;
    PackedMatrix& operator=(const PackedMatrix&) = delete;

    // Fill one tile with its first n_rows rows, 1 to 16; different tiles may be packed on different threads.
    void pack_tile(int64_t tile, const uint8_t* file_rows, int64_t n_rows);

    // Row `row` as float32, bit for bit what dequantize_row makes of the file's bytes. out [n_in]
    void dequantize_row(int64_t row, float* out) const;

    TensorType type() const { return type_; }
    bool is_dense() const;
    int64_t n_out() const { return view_.n_out; }
    int64_t n_in() const { return view_.n_in; }
    int64_t nbytes() const { return view_.n_tiles() * view_.tile_bytes; }
    int64_t file_row_bytes() const { return file_row_bytes_; }
    const TiledMatrix& view() const { return view_; }

private:
    TensorType type_;
    TiledMatrix view_;
    int64_t file_row_bytes_;
    GuardedMemory memory_;
};

}  // namespace espalier
