// Rows of activations sorted by the matrix of a stack that multiplies them, so that its weights are read once for all
// of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace espalier {

// Rows [first, first + count) of the sorted order go through one matrix.
struct MatrixRows {
    int64_t matrix, first, count;
};

class RowsByMatrix {
public:
    // matrices [n_rows], each from 0 to n_matrices - 1
    void sort(const int32_t* matrices, int64_t n_rows, int64_t n_matrices) {
        counts_.assign(size_t(n_matrices), 0);
        for (int64_t row = 0; row < n_rows; ++row) ++counts_[size_t(matrices[row])];
        used_.clear();
        for (int64_t matrix = 0, first = 0; matrix < n_matrices; ++matrix) {
            const int64_t count = counts_[size_t(matrix)];
            if (count > 0) used_.push_back({matrix, first, count});
            counts_[size_t(matrix)] = first;
            first += count;
        }
        rows_.resize(size_t(n_rows));
        positions_.resize(size_t(n_rows));
        for (int64_t row = 0; row < n_rows; ++row) {
            const int64_t position = counts_[size_t(matrices[row])]++;
            positions_[size_t(row)] = int32_t(position);
            rows_[size_t(position)] = int32_t(row);
        }
        std::sort(used_.begin(), used_.end(), [](const MatrixRows& a, const MatrixRows& b) {
            return a.count != b.count ? a.count > b.count : a.matrix < b.matrix;
        });
    }

    int64_t n_rows() const { return int64_t(rows_.size()); }
    // The matrices that have rows, those with the most first: what takes longest is begun first.
    const std::vector<MatrixRows>& used() const { return used_; }
    // The rows in sorted order, rising within a matrix; and where each lies in it.
    const int32_t* rows() const { return rows_.data(); }
    const int32_t* positions() const { return positions_.data(); }

private:
    std::vector<int64_t> counts_;
    std::vector<int32_t> rows_, positions_;
    std::vector<MatrixRows> used_;
};

}  // namespace espalier
