// Linear operations over the threads: the activations are quantized once, then ranges of tiles of all the matrices
// that read them go to whoever is free. A gated pair's ranges are multiplied together where they are still in cache.
// Buffers are kept, so a decode step allocates nothing. Two planes of activations are multiplied with weights that were
// decoded once for both.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/guarded_memory.h"
#include "cpu/kernels.h"
#include "cpu/packed_matrix.h"
#include "cpu/thread_pool.h"
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
        : kernels_(kernels), vectors_(vectors), pool_(pool), planes_(planes), scratch_(size_t(pool.n_threads())) {}

    // x [n_tokens, n_in], every matrix with that n_in. n_tokens >= 1.
    void run(const float* x, int64_t n_tokens, int64_t n_in, const std::vector<LinearJob>& jobs) {
        bool any_quantized = false;
        for (const LinearJob& job : jobs) any_quantized |= !job.matrix->is_dense();
        if (any_quantized) quantize(x, n_tokens, n_in);
        cut(jobs, n_tokens);
        pool_.run(int64_t(ranges_.size()), [&](int64_t i, int worker) {
            const Range& range = ranges_[size_t(i)];
            const RowOutput out{range.job->y, range.job->matrix->n_out(), 0, range.job->residual, planes_};
            multiply(*range.job->matrix, range.first, range.last, x, n_tokens, worker, out);
        });
    }

    void run_gated(const float* x, int64_t n_tokens, int64_t n_in, const GatedJob& job) {
        if (!job.gate->is_dense() || !job.up->is_dense()) quantize(x, n_tokens, n_in);
        const int64_t n_out = job.gate->n_out(), n_tiles = job.gate->view().n_tiles();
        const int64_t step = tiles_at_once(n_tiles, n_tokens, kMaxChunkTiles / 2);
        pool_.run((n_tiles + step - 1) / step, [&](int64_t i, int worker) {
            const int64_t first = i * step, last = first + step < n_tiles ? first + step : n_tiles;
            const int64_t row = first * 16, n_rows = last * 16 < n_out ? (last - first) * 16 : n_out - row;
            float* gate = scratch_[size_t(worker)].gated.of<float>(2 * n_tokens * n_rows);
            float* up = gate + n_tokens * n_rows;
            multiply(*job.gate, first, last, x, n_tokens, worker, {gate, n_rows, row, nullptr, planes_});
            multiply(*job.up, first, last, x, n_tokens, worker, {up, n_rows, row, nullptr, planes_});
            for (int64_t t = 0; t < n_tokens; ++t)
                vectors_.silu_mul(gate + t * n_rows, up + t * n_rows, n_rows, job.y + t * n_out + row);
        });
    }

private:
    static constexpr int64_t kPanelBytes = 512 << 10;  // half of a core's second-level cache
    static constexpr int64_t kRangesPerThread = 8;

    struct Range {
        const LinearJob* job;
        int64_t first, last;  // tiles
    };
    struct Scratch {
        ScratchBuffer panels, chains, gated;
    };

    // Tiles [first, last) of one matrix, on one thread, after `quantize`.
    void multiply(const PackedMatrix& matrix, int64_t first, int64_t last, const float* x, int64_t n_tokens, int worker,
                  const RowOutput& out) {
        const TiledMatrix& w = matrix.view();
        const int type = int(matrix.type());
        if (matrix.is_dense()) return kernels_.dense[type].matmul(w, first, last, x, n_tokens, out);
        const LinearKernels& kernel = kernels_.linear[type];
        if (n_tokens == 1) return kernel.matvec[planes_ - 1](w, first, last, vectors_of_planes_, out);
        const int64_t panel = w.n_in / 32 * kernel.panel_block_bytes;
        const int64_t tiles = std::clamp<int64_t>(kPanelBytes / panel, 1, std::min<int64_t>(kMaxChunkTiles, last - first));
        Scratch& own = scratch_[size_t(worker)];
        const MatmulScratch scratch{own.panels.bytes(tiles * panel), tiles * panel,
                                    own.chains.of<float>(tiles * 4 * groups_[0].n_columns * 16)};
        kernel.matmul(w, first, last, groups_.data(), int(groups_.size()), scratch, out);
    }

    void quantize(const float* x, int64_t n_tokens, int64_t n_in) {
        const int64_t n_blocks = n_in / 32;
        if (n_tokens == 1) {
            lay_out_vectors(n_in);
            kernels_.quantize_vector[planes_ - 1](x, n_in, vectors_of_planes_);
            return;
        }
        lay_out_groups(n_tokens * planes_, n_blocks);
        pool_.run(int64_t(groups_.size()), [&](int64_t g, int) {
            const float* first = x + g * kernels_.column_group / planes_ * n_in;
            kernels_.quantize_columns[planes_ - 1](first, n_in, groups_[size_t(g)]);
        });
    }

    void lay_out_vectors(int64_t n_in) {
        const int64_t n_blocks = n_in / 32;
        int8_t* q = q_.of<int8_t>(planes_ * n_in);
        int32_t *replicated = replicated_.of<int32_t>(planes_ * n_in), *sums = sums_.of<int32_t>(planes_ * 2 * n_blocks);
        float* dx = dx_.of<float>(planes_ * n_blocks);
        for (int64_t p = 0; p < planes_; ++p)
            vectors_of_planes_[p] = {q + p * n_in, replicated + p * n_in, dx + p * n_blocks, sums + p * 2 * n_blocks, 0.0f};
    }

    void lay_out_groups(int64_t n_columns, int64_t n_blocks) {
        const int64_t width = kernels_.column_group;
        const int64_t column_bytes = n_blocks * kColumnDwords * 4;
        const int64_t n_groups = (n_columns + width - 1) / width;
        uint8_t* blocks = columns_.bytes(n_columns * column_bytes);
        float* means = mean_trees_.of<float>(n_columns);
        groups_.clear();
        for (int64_t g = 0; g < n_groups; ++g) {
            const int64_t left = n_columns - g * width;
            groups_.push_back({blocks + g * width * column_bytes, means + g * width, int(left < width ? left : width)});
        }
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
    ScratchBuffer q_, replicated_, dx_, sums_, columns_, mean_trees_;
    VectorActivations vectors_of_planes_[2]{};
    std::vector<ColumnActivations> groups_;
    std::vector<Range> ranges_;
    std::vector<Scratch> scratch_;  // of each thread
};

}  // namespace espalier
