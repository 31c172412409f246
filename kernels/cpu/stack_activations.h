// Activations for the matrices of a stack. Each row is quantized once, however many matrices read it; the rows of a
// matrix are then put beside each other. A row that is alone with its matrix is quantized for a mat-vec.
#pragma once

#include <cstring>
#include <vector>

#include "cpu/activation_forms.h"
#include "cpu/rows_by_matrix.h"
#include "cpu/thread_pool.h"
#include "cpu/tile_products.h"

namespace espalier {

// x [n_rows / slots, n_in]: row r of the sorted rows is row r / slots of x.
struct StackInput {
    const float* x;
    int64_t n_in, slots;
    bool any_quantized, any_dense;  // of the stacks that read it
};

class StackActivations {
public:
    StackActivations(const KernelTable& kernels, ThreadPool& pool, int planes)
        : kernels_(kernels), pool_(pool), planes_(planes) {}

    // Both are looked at until the next call.
    void prepare(const StackInput& input, const RowsByMatrix& sorted) {
        input_ = input, sorted_ = &sorted;
        number_rows();
        if (input.any_quantized) quantize(), gather_columns();
        if (input.any_dense) gather_floats();
    }

    // Of sorted.used()[i].
    TokenRows of(size_t i) const {
        const MatrixRows& matrix = sorted_->used()[i];
        const Place& place = places_[i];
        const float* floats = floats_ + matrix.first * input_.n_in;
        if (matrix.count == 1) return {1, floats, input_.any_quantized ? vectors_.of(place.vector) : nullptr, nullptr, 0};
        return {matrix.count, floats, nullptr, columns_.groups().data() + place.first_group, place.n_groups};
    }

private:
    // Of a matrix: its row's number among those quantized for mat-vecs, or its groups of columns.
    struct Place {
        int64_t vector, first_group, n_groups;
    };
    static constexpr int32_t kNone = -1;

    int64_t source_of(int64_t position) const { return sorted_->rows()[position] / input_.slots; }

    // Which rows of x are read by mat-vecs, which by matmuls: each gets a number the first time.
    void number_rows() {
        const size_t n_sources = size_t(sorted_->n_rows() / input_.slots);
        vector_of_.assign(n_sources, kNone), columns_of_.assign(n_sources, kNone);
        vector_rows_.clear(), column_rows_.clear(), places_.clear();
        for (const MatrixRows& matrix : sorted_->used()) {
            const bool alone = matrix.count == 1;
            for (int64_t i = matrix.first; i < matrix.first + matrix.count; ++i)
                number(source_of(i), alone ? vector_of_ : columns_of_, alone ? vector_rows_ : column_rows_);
            places_.push_back({vector_of_[size_t(source_of(matrix.first))], 0, 0});
        }
    }
    static void number(int64_t source, std::vector<int32_t>& numbers, std::vector<int32_t>& rows) {
        if (numbers[size_t(source)] != kNone) return;
        numbers[size_t(source)] = int32_t(rows.size());
        rows.push_back(int32_t(source));
    }

    void quantize() {
        const int64_t n_vectors = int64_t(vector_rows_.size()), n_columns = int64_t(column_rows_.size());
        vectors_.lay_out(n_vectors, input_.n_in, planes_);
        single_columns_.lay_out(n_columns * planes_, input_.n_in / 32);
        single_columns_.add(n_columns * planes_, planes_);
        pool_.run(n_vectors + n_columns, [&](int64_t i, int) {
            if (i < n_vectors) {
                kernels_.quantize_vector[planes_ - 1](row_of_x(vector_rows_[size_t(i)]), input_.n_in, vectors_.of(i));
            } else {
                const size_t column = size_t(i - n_vectors);
                kernels_.quantize_columns[planes_ - 1](row_of_x(column_rows_[column]), input_.n_in, single_columns_.groups()[column]);
            }
        });
    }
    const float* row_of_x(int64_t source) const { return input_.x + source * input_.n_in; }

    // The columns of each matrix that several rows go through, in its groups.
    void gather_columns() {
        int64_t n_columns = 0;
        for (const MatrixRows& matrix : sorted_->used()) n_columns += matrix.count > 1 ? matrix.count * planes_ : 0;
        columns_.lay_out(n_columns, input_.n_in / 32);
        first_rows_.clear();
        for (size_t i = 0; i < places_.size(); ++i) {
            const MatrixRows& matrix = sorted_->used()[i];
            if (matrix.count == 1) continue;
            const int64_t rows = rows_of_a_group(matrix.count);
            places_[i].first_group = int64_t(columns_.groups().size());
            columns_.add(matrix.count * planes_, int(rows) * planes_);
            places_[i].n_groups = int64_t(columns_.groups().size()) - places_[i].first_group;
            for (int64_t first = 0; first < matrix.count; first += rows) first_rows_.push_back(matrix.first + first);
        }
        pool_.run(int64_t(first_rows_.size()), [&](int64_t g, int) { gather_group(columns_.groups()[size_t(g)], first_rows_[size_t(g)]); });
    }

    // As few groups as there can be, and of about one size: a group of a column or two keeps no kernel busy.
    int64_t rows_of_a_group(int64_t count) const {
        const int64_t most = kernels_.column_group / planes_, n_groups = (count + most - 1) / most;
        return (count + n_groups - 1) / n_groups;
    }

    // Rows from first_row of the sorted order on, as the columns of one group.
    void gather_group(ColumnActivations& group, int64_t first_row) const {
        const int64_t n_blocks = input_.n_in / 32, n = group.n_columns;
        for (int64_t column = 0; column < n; ++column) {
            const size_t source = size_t(source_of(first_row + column / planes_));
            const ColumnActivations& from = single_columns_.groups()[size_t(columns_of_[source])];
            const int64_t plane = column % planes_;
            group.mean_trees[column] = from.mean_trees[plane];
            const int32_t* dwords = reinterpret_cast<const int32_t*>(from.blocks) + plane;
            int32_t* to = reinterpret_cast<int32_t*>(group.blocks) + column;
            for (int64_t i = 0; i < n_blocks * kColumnDwords; ++i) to[i * n] = dwords[i * planes_];
        }
    }

    void gather_floats() {
        float* floats = float_rows_.of<float>(sorted_->n_rows() * input_.n_in);
        floats_ = floats;
        pool_.run(sorted_->n_rows(), [&](int64_t i, int) {
            std::memcpy(floats + i * input_.n_in, row_of_x(source_of(i)), size_t(input_.n_in) * sizeof(float));
        });
    }

    const KernelTable& kernels_;
    ThreadPool& pool_;
    const int planes_;
    StackInput input_{};
    const RowsByMatrix* sorted_ = nullptr;
    std::vector<int32_t> vector_of_, columns_of_;     // of a row of x: its number in a form, or kNone
    std::vector<int32_t> vector_rows_, column_rows_;  // the rows of x in each form, by number
    std::vector<Place> places_;                       // of sorted.used()
    std::vector<int64_t> first_rows_;                 // of each group of columns, in the sorted order
    VectorForms vectors_;
    ColumnForms single_columns_, columns_;
    ScratchBuffer float_rows_;
    const float* floats_ = nullptr;
};

}  // namespace espalier
