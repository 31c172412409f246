// Matrices of one type and shape in one memory, each in whole row-lane tiles: experts, or heads. Rows that fill up a
// matrix's last tile are zeros that no kernel stores.
#pragma once

#include <algorithm>

#include "cpu/packed_matrix.h"

namespace espalier {

class PackedStack {
public:
    // Throws what PackedMatrix throws. n >= 1
    PackedStack(TensorType type, int64_t n, int64_t n_out, int64_t n_in)
        : n_(n), n_out_(n_out), tiles_of_matrix_((n_out + kTileRows - 1) / kTileRows),
          rows_(type, n * tiles_of_matrix_ * kTileRows, n_in) {}

    // Tiles are numbered through all matrices.
    int64_t n_tiles() const { return n_ * tiles_of_matrix_; }
    void pack_tile(const uint8_t* file_bytes, int64_t tile) {
        const int64_t matrix = tile / tiles_of_matrix_, row = tile % tiles_of_matrix_ * kTileRows;
        const uint8_t* file_rows = file_bytes + (matrix * n_out_ + row) * rows_.file_row_bytes();
        rows_.pack_tile(tile, file_rows, std::min<int64_t>(kTileRows, n_out_ - row));
    }

    // Matrix i, whose tiles are numbered from 0.
    TiledMatrix view(int64_t i) const {
        const TiledMatrix& all = rows_.view();
        return {all.tiles + i * tiles_of_matrix_ * all.tile_bytes, all.tile_bytes, n_out_, all.n_in};
    }
    int64_t tiles_of_matrix() const { return tiles_of_matrix_; }

    TensorType type() const { return rows_.type(); }
    bool is_dense() const { return rows_.is_dense(); }
    int64_t n() const { return n_; }
    int64_t n_out() const { return n_out_; }
    int64_t n_in() const { return rows_.n_in(); }
    int64_t nbytes() const { return rows_.nbytes(); }
    int64_t file_row_bytes() const { return rows_.file_row_bytes(); }

private:
    static constexpr int64_t kTileRows = 16;

    int64_t n_, n_out_, tiles_of_matrix_;
    PackedMatrix rows_;
};

}  // namespace espalier
