// Memory for the int8 forms of activations (kernels.h), kept and used again, so that a decode step allocates nothing.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/guarded_memory.h"
#include "cpu/kernels.h"

namespace espalier {

// Tokens one by one, for mat-vecs.
class VectorForms {
public:
    // Room for n_tokens of n_in columns; what was there is forgotten.
    void lay_out(int64_t n_tokens, int64_t n_in, int planes) {
        const int64_t n = n_tokens * planes, n_blocks = n_in / 32;
        planes_ = planes;
        int8_t* q = q_.of<int8_t>(n * n_in);
        int32_t *replicated = replicated_.of<int32_t>(n * n_in), *sums = sums_.of<int32_t>(n * 2 * n_blocks);
        float* dx = dx_.of<float>(n * n_blocks);
        forms_.clear();
        for (int64_t i = 0; i < n; ++i)
            forms_.push_back({q + i * n_in, replicated + i * n_in, dx + i * n_blocks, sums + i * 2 * n_blocks, 0.0f});
    }
    // The planes of a token.
    VectorActivations* of(int64_t token) { return forms_.data() + token * planes_; }
    const VectorActivations* of(int64_t token) const { return forms_.data() + token * planes_; }

private:
    ScratchBuffer q_, replicated_, dx_, sums_;
    std::vector<VectorActivations> forms_;
    int planes_ = 1;
};

// Columns beside each other, for matmuls.
class ColumnForms {
public:
    // Room for n_columns of n_blocks 32-blocks; what was there is forgotten.
    void lay_out(int64_t n_columns, int64_t n_blocks) {
        column_bytes_ = n_blocks * kColumnDwords * 4;
        next_block_ = blocks_.bytes(n_columns * column_bytes_);
        next_mean_ = mean_trees_.of<float>(n_columns);
        groups_.clear();
    }
    // Groups of up to `width` columns for the next n_columns of that room.
    void add(int64_t n_columns, int width) {
        for (int64_t left = n_columns; left > 0; left -= width) {
            const int n = int(std::min<int64_t>(left, width));
            groups_.push_back({next_block_, next_mean_, n});
            next_block_ += n * column_bytes_;
            next_mean_ += n;
        }
    }
    std::vector<ColumnActivations>& groups() { return groups_; }
    const std::vector<ColumnActivations>& groups() const { return groups_; }

private:
    ScratchBuffer blocks_, mean_trees_;
    std::vector<ColumnActivations> groups_;
    int64_t column_bytes_ = 0;
    uint8_t* next_block_ = nullptr;
    float* next_mean_ = nullptr;
};

}  // namespace espalier
