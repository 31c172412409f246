// Linear operations over the threads: the activations are quantized once, then ranges of tiles of all the matrices
// that read them go to whoever is free. Buffers are kept, so a decode step allocates nothing.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/guarded_memory.h"
#include "cpu/kernels.h"
#include "cpu/packed_matrix.h"
#include "cpu/thread_pool.h"

namespace espalier {

struct LinearJob {
    const PackedMatrix* matrix;
    float* y;  // [n_tokens, n_out]
};

class LinearRunner {
public:
    LinearRunner(const KernelTable& kernels, ThreadPool& pool)
        : kernels_(kernels), pool_(pool), panels_(size_t(pool.n_threads())), chains_(size_t(pool.n_threads())) {}

    // y = W x for each job; x [n_tokens, n_in], every matrix with that n_in. n_tokens >= 1.
    void run(const float* x, int64_t n_tokens, int64_t n_in, const std::vector<LinearJob>& jobs) {
        bool any_quantized = false;
        for (const LinearJob& job : jobs) any_quantized |= !job.matrix->is_dense();
        if (any_quantized) quantize(x, n_tokens, n_in);
        cut(jobs, n_tokens);
        pool_.run(int64_t(ranges_.size()), [&](int64_t i, int worker) {
            const Range& range = ranges_[size_t(i)];
            const TiledMatrix& w = range.job->matrix->view();
            const int type = int(range.job->matrix->type());
            if (range.job->matrix->is_dense()) {
                kernels_.dense[type].matmul(w, range.first, range.last, x, n_tokens, range.job->y);
            } else if (n_tokens == 1) {
                kernels_.linear[type].matvec(w, range.first, range.last, vector_, range.job->y);
            } else {
                matmul(kernels_.linear[type], w, range, worker);
            }
        });
    }

private:
    static constexpr int64_t kPanelBytes = 512 << 10;  // half of a core's second-level cache
    static constexpr int64_t kRangesPerThread = 8;

    struct Range {
        const LinearJob* job;
        int64_t first, last;  // tiles
    };

    void quantize(const float* x, int64_t n_tokens, int64_t n_in) {
        const int64_t n_blocks = n_in / 32;
        if (n_tokens == 1) {
            vector_ = {q_.of<int8_t>(n_in), replicated_.of<int32_t>(n_in), dx_.of<float>(n_blocks),
                       sums_.of<int32_t>(2 * n_blocks), 0.0f};
            kernels_.quantize_vector(x, n_in, vector_);
            return;
        }
        lay_out_groups(n_tokens, n_blocks);
        pool_.run(int64_t(groups_.size()), [&](int64_t g, int) {
            kernels_.quantize_columns(x + g * kernels_.column_group * n_in, n_in, groups_[size_t(g)]);
        });
    }

    void lay_out_groups(int64_t n_tokens, int64_t n_blocks) {
        const int64_t width = kernels_.column_group;
        const int64_t column_bytes = n_blocks * kColumnDwords * 4;
        const int64_t n_groups = (n_tokens + width - 1) / width;
        uint8_t* blocks = columns_.bytes(n_tokens * column_bytes);
        float* means = mean_trees_.of<float>(n_tokens);
        groups_.clear();
        for (int64_t g = 0; g < n_groups; ++g) {
            const int64_t left = n_tokens - g * width;
            groups_.push_back({blocks + g * width * column_bytes, means + g * width, int(left < width ? left : width)});
        }
    }

    void cut(const std::vector<LinearJob>& jobs, int64_t n_tokens) {
        int64_t n_tiles = 0;
        for (const LinearJob& job : jobs) n_tiles += job.matrix->view().n_tiles();
        int64_t step = n_tiles / (kRangesPerThread * pool_.n_threads());
        if (n_tokens > 1 && step > kMaxChunkTiles) step = kMaxChunkTiles;
        if (step < 1) step = 1;
        ranges_.clear();
        for (const LinearJob& job : jobs)
            for (int64_t first = 0, end = job.matrix->view().n_tiles(); first < end; first += step)
                ranges_.push_back({&job, first, first + step < end ? first + step : end});
    }

    void matmul(const LinearKernels& kernel, const TiledMatrix& w, const Range& range, int worker) {
        const int64_t panel = w.n_in / 32 * kernel.panel_block_bytes;
        const int64_t tiles = std::clamp<int64_t>(kPanelBytes / panel, 1, std::min<int64_t>(kMaxChunkTiles, range.last - range.first));
        const MatmulScratch scratch{panels_[size_t(worker)].bytes(tiles * panel), tiles * panel,
                                    chains_[size_t(worker)].of<float>(tiles * 4 * groups_[0].n_columns * 16)};
        kernel.matmul(w, range.first, range.last, groups_.data(), int(groups_.size()), scratch, range.job->y);
    }

    const KernelTable& kernels_;
    ThreadPool& pool_;
    ScratchBuffer q_, replicated_, dx_, sums_, columns_, mean_trees_;
    VectorActivations vector_{};
    std::vector<ColumnActivations> groups_;
    std::vector<Range> ranges_;
    std::vector<ScratchBuffer> panels_, chains_;
};

}  // namespace espalier
