// Linear operations over the threads: the activations are quantized once, then ranges of tiles of all the matrices
// that read them go to whoever is free. A gated pair's ranges are multiplied together where they are still in cache.
// Buffers are kept, so a decode step allocates nothing. Two planes of activations are multiplied with weights that were
// decoded once for both.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/activation_forms.h"
#include "cpu/packed_matrix.h"
#include "cpu/thread_pool.h"
#include "cpu/tile_products.h"
#include "cpu/vector_kernels.h"

namespace espalier {

// y [n_tokens, n_out] = W x; plus residual, of that shape, unless it is null.
struct LinearJob {
    const PackedMatrix* matrix;
    float* y;
    const float* residual;
};

// y [n_tokens, n_out] = silu(gate x) * (up x)
struct GatedJob {
    const PackedMatrix *gate, *up;
    float* y;
};

class LinearRunner {
public:
    // planes: of activations, 1 or 2
    LinearRunner(const KernelTable& kernels, const VectorKernels& vectors, ThreadPool& pool, int planes)
        : kernels_(kernels), vectors_(vectors), pool_(pool), planes_(planes), products_(kernels, planes, pool.n_threads()),
          gated_(size_t(pool.n_threads())) {}

    // x [n_tokens, n_in], every matrix with that n_in. n_tokens >= 1.
    void run(const float* x, int64_t n_tokens, int64_t n_in, const std::vector<LinearJob>& jobs) {
        bool any_quantized = false;
        for (const LinearJob& job : jobs) any_quantized |= !job.matrix->is_dense();
        const TokenRows rows = rows_of(x, n_tokens, n_in, any_quantized);
        cut(jobs, n_tokens);
        pool_.run(int64_t(ranges_.size()), [&](int64_t i, int worker) {
            const Range& range = ranges_[size_t(i)];
            const RowOutput out{range.job->y, range.job->matrix->n_out(), 0, range.job->residual, planes_};
            multiply(*range.job->matrix, range.first, range.last, rows, worker, out);
        });
    }

    void run_gated(const float* x, int64_t n_tokens, int64_t n_in, const GatedJob& job) {
        const TokenRows rows = rows_of(x, n_tokens, n_in, !job.gate->is_dense() || !job.up->is_dense());
        const int64_t n_out = job.gate->n_out(), n_tiles = job.gate->view().n_tiles();
        const int64_t step = tiles_at_once(n_tiles, n_tokens, kMaxChunkTiles / 2);
        pool_.run((n_tiles + step - 1) / step, [&](int64_t i, int worker) {
            const int64_t first = i * step, last = first + step < n_tiles ? first + step : n_tiles;
            const int64_t row = first * 16, n_rows = last * 16 < n_out ? (last - first) * 16 : n_out - row;
            float* gate = gated_[size_t(worker)].of<float>(2 * n_tokens * n_rows);
            float* up = gate + n_tokens * n_rows;
            multiply(*job.gate, first, last, rows, worker, {gate, n_rows, row, nullptr, planes_});
            multiply(*job.up, first, last, rows, worker, {up, n_rows, row, nullptr, planes_});
            for (int64_t t = 0; t < n_tokens; ++t)
                vectors_.silu_mul(gate + t * n_rows, up + t * n_rows, n_rows, job.y + t * n_out + row);
        });
    }

private:
    static constexpr int64_t kRangesPerThread = 8;

    struct Range {
        const LinearJob* job;
        int64_t first, last;  // tiles
    };

    void multiply(const PackedMatrix& matrix, int64_t first, int64_t last, const TokenRows& rows, int worker, const RowOutput& out) {
        products_.multiply(matrix.type(), matrix.view(), first, last, rows, worker, out);
    }

    // x in the forms that matrices read.
    TokenRows rows_of(const float* x, int64_t n_tokens, int64_t n_in, bool any_quantized) {
        if (any_quantized) quantize(x, n_tokens, n_in);
        return {n_tokens, x, vectors_of_planes_.of(0), columns_.groups().data(), int64_t(columns_.groups().size())};
    }

    void quantize(const float* x, int64_t n_tokens, int64_t n_in) {
        if (n_tokens == 1) {
            vectors_of_planes_.lay_out(1, n_in, planes_);
            kernels_.quantize_vector[planes_ - 1](x, n_in, vectors_of_planes_.of(0));
            return;
        }
        columns_.lay_out(n_tokens * planes_, n_in / 32);
        columns_.add(n_tokens * planes_, kernels_.column_group);
        std::vector<ColumnActivations>& groups = columns_.groups();
        pool_.run(int64_t(groups.size()), [&](int64_t g, int) {
            const float* first = x + g * kernels_.column_group / planes_ * n_in;
            kernels_.quantize_columns[planes_ - 1](first, n_in, groups[size_t(g)]);
        });
    }

    // Small enough that no thread is left waiting for another's last one; no more than `most` where panels are decoded.
    int64_t tiles_at_once(int64_t n_tiles, int64_t n_tokens, int64_t most) const {
        int64_t step = n_tiles / (kRangesPerThread * pool_.n_threads());
        if (n_tokens > 1 && step > most) step = most;
        return step < 1 ? 1 : step;
    }

    void cut(const std::vector<LinearJob>& jobs, int64_t n_tokens) {
        int64_t n_tiles = 0;
        for (const LinearJob& job : jobs) n_tiles += job.matrix->view().n_tiles();
        const int64_t step = tiles_at_once(n_tiles, n_tokens, kMaxChunkTiles);
        ranges_.clear();
        for (const LinearJob& job : jobs)
            for (int64_t first = 0, end = job.matrix->view().n_tiles(); first < end; first += step)
                ranges_.push_back({&job, first, first + step < end ? first + step : end});
    }

    const KernelTable& kernels_;
    const VectorKernels& vectors_;
    ThreadPool& pool_;
    const int planes_;
    TileProducts products_;
    VectorForms vectors_of_planes_;
    ColumnForms columns_;
    std::vector<Range> ranges_;
    std::vector<ScratchBuffer> gated_;  // of each thread
};

}  // namespace espalier
