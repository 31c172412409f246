// Linear operations on a stack of matrices, experts or heads, over the threads. Rows are sorted by their matrix, whose
// tiles are read once for all of them. Threads take ranges of tiles of whichever matrix comes next, ranges of about
// the same work: a matrix that most rows go through is shared by all.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/packed_stack.h"
#include "cpu/stack_activations.h"
#include "cpu/vector_kernels.h"

namespace espalier {

// The matrix of each row: experts [n_tokens, n_used].
struct ExpertChoice {
    const int32_t* experts;
    int64_t n_tokens, n_used;
    int64_t n_rows() const { return n_tokens * n_used; }
};

class StackRunner {
public:
    StackRunner(const KernelTable& kernels, const VectorKernels& vectors, ThreadPool& pool, int planes)
        : vectors_(vectors), pool_(pool), products_(kernels, planes, pool.n_threads()),
          activations_(kernels, pool, planes), scratch_(size_t(pool.n_threads())) {}

    // x [n_tokens, n_in] -> y [n_tokens, n_used, n_out] = silu(gate_e x) * (up_e x)
    void gated(const float* x, const ExpertChoice& choice, const PackedStack& gate, const PackedStack& up, float* y) {
        sorted_.sort(choice.experts, choice.n_rows(), gate.n());
        activations_.prepare({x, gate.n_in(), choice.n_used, !gate.is_dense() || !up.is_dense(), gate.is_dense() || up.is_dense()},
                             sorted_);
        cut(gate.tiles_of_matrix(), kMaxChunkTiles / 2);
        pool_.run(int64_t(ranges_.size()), [&](int64_t i, int worker) {
            const Range& range = ranges_[size_t(i)];
            const MatrixRows& matrix = sorted_.used()[range.used];
            const int64_t row = range.first * 16, n_rows = std::min(range.last * 16, gate.n_out()) - row;
            float* gates = scratch_[size_t(worker)].of<float>(2 * matrix.count * n_rows);
            float* ups = gates + matrix.count * n_rows;
            multiply(gate, range, worker, {gates, n_rows, row, nullptr, products_.planes()});
            multiply(up, range, worker, {ups, n_rows, row, nullptr, products_.planes()});
            for (int64_t j = 0; j < matrix.count; ++j) {
                float* out = y + sorted_.rows()[matrix.first + j] * gate.n_out() + row;
                vectors_.silu_mul(gates + j * n_rows, ups + j * n_rows, n_rows, out);
            }
        });
    }

    // h [n_tokens, n_used, n_in] -> y [n_tokens, n_out] = residual + the sum of weights [n_tokens, n_used] * (down_e h)
    void weighted_sum(const float* h, const ExpertChoice& choice, const float* weights, const PackedStack& down,
                      const float* residual, float* y) {
        sorted_.sort(choice.experts, choice.n_rows(), down.n());
        activations_.prepare({h, down.n_in(), 1, !down.is_dense(), down.is_dense()}, sorted_);
        const int64_t n_out = down.n_out(), n_tiles = down.tiles_of_matrix(), step = tiles_of_all(n_tiles, choice.n_rows());
        pool_.run((n_tiles + step - 1) / step, [&](int64_t i, int worker) {
            const int64_t first = i * step, last = std::min(first + step, n_tiles);
            const int64_t row = first * 16, n_rows = std::min(last * 16, n_out) - row;
            float* products = scratch_[size_t(worker)].of<float>(choice.n_rows() * n_rows);
            for (size_t used = 0; used < sorted_.used().size(); ++used) {
                float* out = products + sorted_.used()[used].first * n_rows;
                multiply(down, {used, first, last}, worker, {out, n_rows, row, nullptr, products_.planes()});
            }
            for (int64_t t = 0; t < choice.n_tokens; ++t) {
                const int64_t at = t * choice.n_used;
                vectors_.weighted_sum({products, sorted_.positions() + at, weights + at, choice.n_used}, n_rows,
                                      residual + t * n_out + row, y + t * n_out + row);
            }
        });
    }

    // x [n_tokens, n_head, n_in] -> y [n_tokens, n_head, n_out], head i through matrix i
    void by_head(const float* x, int64_t n_tokens, const PackedStack& heads, float* y) {
        const int64_t n_head = heads.n(), n_rows = n_tokens * n_head;
        heads_.resize(size_t(n_rows));
        for (int64_t row = 0; row < n_rows; ++row) heads_[size_t(row)] = int32_t(row % n_head);
        sorted_.sort(heads_.data(), n_rows, n_head);
        activations_.prepare({x, heads.n_in(), 1, !heads.is_dense(), heads.is_dense()}, sorted_);
        cut(heads.tiles_of_matrix(), kMaxChunkTiles);
        pool_.run(int64_t(ranges_.size()), [&](int64_t i, int worker) {
            const Range& range = ranges_[size_t(i)];
            float* out = y + sorted_.used()[range.used].matrix * heads.n_out();
            multiply(heads, range, worker, {out, n_head * heads.n_out(), 0, nullptr, products_.planes()});
        });
    }

private:
    static constexpr int64_t kRangesPerThread = 8;
    static constexpr int64_t kDecodeCost = 4;            // of a tile, in columns
    static constexpr int64_t kProductBytes = 1 << 20;    // of a weighted sum: half of a core's second-level cache

    // Tiles [first, last) of the matrix sorted_.used()[used].
    struct Range {
        size_t used;
        int64_t first, last;
    };

    void multiply(const PackedStack& stack, const Range& range, int worker, const RowOutput& out) {
        const TiledMatrix matrix = stack.view(sorted_.used()[range.used].matrix);
        products_.multiply(stack.type(), matrix, range.first, range.last, activations_.of(range.used), worker, out);
    }

    // Ranges of about the same work; of no more than `most` tiles where panels are decoded.
    void cut(int64_t n_tiles, int64_t most) {
        int64_t work = 0;
        for (const MatrixRows& matrix : sorted_.used()) work += n_tiles * tile_work(matrix);
        const int64_t share = work / (kRangesPerThread * pool_.n_threads());
        ranges_.clear();
        for (size_t used = 0; used < sorted_.used().size(); ++used) {
            const MatrixRows& matrix = sorted_.used()[used];
            const int64_t step = std::clamp<int64_t>(share / tile_work(matrix), 1, matrix.count > 1 ? most : n_tiles);
            for (int64_t first = 0; first < n_tiles; first += step) ranges_.push_back({used, first, std::min(first + step, n_tiles)});
        }
    }
    static int64_t tile_work(const MatrixRows& matrix) { return kDecodeCost + matrix.count; }

    // Tiles of every matrix that a thread takes at once: it adds up what they give, so their products stay in its cache.
    int64_t tiles_of_all(int64_t n_tiles, int64_t n_rows) const {
        const int64_t fair = n_tiles / (kRangesPerThread * pool_.n_threads()), fitting = kProductBytes / (n_rows * 64);
        return std::max<int64_t>(1, std::min({fair, fitting, int64_t(kMaxChunkTiles)}));
    }

    const VectorKernels& vectors_;
    ThreadPool& pool_;
    TileProducts products_;
    RowsByMatrix sorted_;
    StackActivations activations_;
    std::vector<Range> ranges_;
    std::vector<int32_t> heads_;
    std::vector<ScratchBuffer> scratch_;  // of each thread
};

}  // namespace espalier
