// Tiles of one matrix times the activations of some tokens, on one thread: mat-vec, matmul or floats, whichever the
// matrix and the number of tokens ask for.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/guarded_memory.h"
#include "cpu/kernels.h"

namespace espalier {

// n_tokens >= 1 tokens in the forms that a matrix may read: a dense one x, others the int8 forms.
struct TokenRows {
    int64_t n_tokens;
    const float* x;                   // [n_tokens, n_in]
    const VectorActivations* vector;  // [planes] of a token that is alone
    const ColumnActivations* groups;  // of several
    int64_t n_groups;
};

class TileProducts {
public:
    TileProducts(const KernelTable& kernels, int planes, int n_threads)
        : kernels_(kernels), planes_(planes), scratch_(size_t(n_threads)) {}

    int planes() const { return planes_; }

    // Tiles [first, last) of w, into rows of out.
    void multiply(TensorType type, const TiledMatrix& w, int64_t first, int64_t last, const TokenRows& rows, int worker,
                  const RowOutput& out) {
        const DenseKernels& dense = kernels_.dense[int(type)];
        if (dense.matmul != nullptr) return dense.matmul(w, first, last, rows.x, rows.n_tokens, out);
        const LinearKernels& kernel = kernels_.linear[int(type)];
        if (rows.n_tokens == 1) return kernel.matvec[planes_ - 1](w, first, last, rows.vector, out);
        const int64_t panel = w.n_in / 32 * kernel.panel_block_bytes;
        const int64_t tiles = std::clamp<int64_t>(kPanelBytes / panel, 1, std::min<int64_t>(kMaxChunkTiles, last - first));
        Scratch& own = scratch_[size_t(worker)];
        const MatmulScratch scratch{own.panels.bytes(tiles * panel), tiles * panel,
                                    own.chains.of<float>(tiles * 4 * rows.groups[0].n_columns * 16)};
        kernel.matmul(w, first, last, rows.groups, int(rows.n_groups), scratch, out);
    }

private:
    static constexpr int64_t kPanelBytes = 512 << 10;  // half of a core's second-level cache

    struct Scratch {
        ScratchBuffer panels, chains;
    };

    const KernelTable& kernels_;
    const int planes_;
    std::vector<Scratch> scratch_;  // of each thread
};

}  // namespace espalier
