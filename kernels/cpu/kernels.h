// What one ISA tier offers the rest of the CPU backend: a table of functions, chosen once by cpuid (dispatch.h).
//
// A linear runs in two steps: `quantize` turns a token or a group of tokens into int8 activations, once for all
// matrices that read them; then matvec (one token) or matmul (several) over any range of tiles, on any thread.
// With two planes of activations a token is int8 twice, for matmul as two neighbouring columns; its products are added.
// Every function computes the one formula of common/linear_formula.h, so the bits do not depend on the tier, the
// number of tokens or the ranges.
#pragma once

#include <cstdint>

#include "common/tensor_types.h"

namespace espalier {

constexpr int kTypeCount = kTensorTypeCount;

// A matrix in row-lane tiles (tiles/layout.h); a view, the memory is PackedMatrix's.
struct TiledMatrix {
    const uint8_t* tiles;
    int64_t tile_bytes;
    int64_t n_out, n_in;
    int64_t n_tiles() const { return (n_out + 15) / 16; }
};

// One plane of one token's activations. n_blocks = n_in / 32.
struct VectorActivations {
    int8_t* q;               // [n_in]
    int32_t* replicated;     // [n_in]  q in all four bytes
    float* dx;               // [n_blocks]
    int32_t* sums;           // [n_blocks, 2]  of columns 0..15 and 16..31
    float mean_tree;         // (a0 + a1) + (a2 + a3) of the chains fma(sum, dx): what a row's mean is multiplied by
};

// Up to `column_group` columns side by side, for every 32-block in chain order (chain 0's blocks, then
// chain 1's, ...): dwords [8 panel vectors][n], dx [n], start [n] = -128 * sum, starts of the two 16-halves [2][n],
// sum as float [n].
struct ColumnActivations {
    uint8_t* blocks;         // [n_blocks] of kColumnDwords * 4 * n_columns bytes
    float* mean_trees;       // [n_columns]
    int n_columns;
};
constexpr int kColumnDwords = 13;

// Where results go: row r of token t is y[t * stride + r - first_row], to which residual, of the same layout, is added
// unless it is null. planes: columns of a token in matmul, 1 or 2.
struct RowOutput {
    float* y;
    int64_t stride, first_row;
    const float* residual;
    int planes;
};

// Scratch of one thread for matmul.
struct MatmulScratch {
    uint8_t* panels;         // decoded tiles
    int64_t panel_capacity;  // bytes; at least one tile's panel
    float* chains;           // [tiles of a chunk][4 chains][column_group][16]
};
constexpr int kMaxChunkTiles = 8;

struct LinearKernels {
    // By planes - 1: one token for tiles [first, last). x [planes]
    void (*matvec[2])(const TiledMatrix& w, int64_t first, int64_t last, const VectorActivations* x, const RowOutput& out);
    // The columns of all groups in order.
    void (*matmul)(const TiledMatrix& w, int64_t first, int64_t last, const ColumnActivations* groups, int n_groups,
                   const MatmulScratch& scratch, const RowOutput& out);
    // 32-block b of one row of a tile as the integers that were packed. Scalar tier only, elsewhere null.
    void (*unpack)(const uint8_t* tile, int64_t n_blocks, int64_t b, int row, Block32& out);
    // Bytes of a decoded 32-block of 16 rows.
    int panel_block_bytes;
};

struct DenseKernels {
    // x [n_tokens, n_in] float; rows of tiles [first, last).
    void (*matmul)(const TiledMatrix& w, int64_t first, int64_t last, const float* x, int64_t n_tokens, const RowOutput& out);
};

struct KernelTable {
    const char* isa;
    int column_group;  // even: the two planes of a token are in one group
    // By planes - 1. out [planes]
    void (*quantize_vector[2])(const float* x, int64_t n_in, VectorActivations* out);
    // By planes - 1. x [n_columns / planes, n_in]: a token's planes are neighbouring columns
    void (*quantize_columns[2])(const float* x, int64_t n_in, ColumnActivations& out);
    LinearKernels linear[kTypeCount];  // by TensorType; null for dense types
    DenseKernels dense[kTypeCount];    // null for quantized types
};

const KernelTable* kernels_scalar();
const KernelTable* kernels_avx2();
const KernelTable* kernels_avx512();

}  // namespace espalier
