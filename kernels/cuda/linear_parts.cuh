// What every linear kernel takes: up to three matrices of one type that read the same activations (q, k and v; gate and
// up), laid end to end over the grid's first axis, and the activations as quantize_activations leaves them.
#pragma once

#include "common/linear_formula.h"
#include "cuda/gated.cuh"

namespace espalier {

constexpr int kParts = 3;

// Parameters of a linear kernel, in this order; a part that is not there has n_out 0.
//   weights0..2   each in the layout of Weights (file_rows.cuh or kt_tiles.cuh)
//   y0..2         float32 [n_tokens, n_out]
//   n_out0..2     rows
//   residual      float32 like y0, added to it, or null
//   gated_y, gated_q, gated_dx, gated_sums, arrivals   where silu(y0) * y1 goes, and its int8 form (gated.cuh); null: not wanted
//   n_in          columns, a multiple of 32; q int8 [n_tokens, n_in], dx float32 and sums int32 [n_tokens, n_in / 32] (quantize.cuh)
#define ESP_LINEAR_PARAMETERS                                                                                       \
    const uint8_t *weights0, const uint8_t *weights1, const uint8_t *weights2, float *y0, float *y1, float *y2,     \
        int n_out0, int n_out1, int n_out2, int n_in, const int8_t *q, const float *dx, const int *sums,            \
        int n_tokens, const float *residual, float *gated_y, int8_t *gated_q, float *gated_dx, int *gated_sums,     \
        int *arrivals
#define ESP_LINEAR_PARTS \
    Parts { {weights0, weights1, weights2}, {y0, y1, y2}, {n_out0, n_out1, n_out2}, residual }
#define ESP_LINEAR_GATED \
    Gated { y0, y1, gated_y, gated_q, gated_dx, gated_sums, arrivals, n_out0, n_tokens }
#define ESP_LINEAR_ACTIVATIONS \
    Activations { q, dx, sums, n_in, n_tokens }

struct Parts {
    const uint8_t* weights[kParts];
    float* y[kParts];
    int n_out[kParts];
    const float* residual;
};

struct Activations {
    const int8_t* q;
    const float* dx;
    const int* sums;
    int n_in, n_tokens;

    ESP_FN int n_blocks() const { return n_in / 32; }
    ESP_FN const int8_t* block_q(int token, int b) const { return q + int64_t(token) * n_in + 32 * b; }
    ESP_FN float block_dx(int token, int b) const { return dx[int64_t(token) * n_blocks() + b]; }
    ESP_FN int block_sums(int token, int b) const { return sums[int64_t(token) * n_blocks() + b]; }
};

// The matrix that a block of threads works on, and its first row there.
struct Part {
    const uint8_t* weights;
    float* y;
    int n_out, first_row;
    const float* residual;

    // y of a token and row, with what is added to it.
    ESP_FN void store(int token, int row, float value) const {
        const int64_t at = int64_t(token) * n_out + row;
        y[at] = residual == nullptr ? value : residual[at] + value;
    }
};

ESP_FN Part part_of_block(const Parts& parts, int block, int rows_per_block) {
    int i = 0;
    for (; i + 1 < kParts; ++i) {
        const int n_blocks = (parts.n_out[i] + rows_per_block - 1) / rows_per_block;
        if (block < n_blocks) break;
        block -= n_blocks;
    }
    // Selected, not indexed: an index would put the parameters into local memory.
    const uint8_t* weights = i == 0 ? parts.weights[0] : i == 1 ? parts.weights[1] : parts.weights[2];
    float* y = i == 0 ? parts.y[0] : i == 1 ? parts.y[1] : parts.y[2];
    const int n_out = i == 0 ? parts.n_out[0] : i == 1 ? parts.n_out[1] : parts.n_out[2];
    return {weights, y, n_out, block * rows_per_block, parts.residual};
}

// The last step of the formula (block32.h): from the trees of a row's chains to y.
template <class T>
ESP_FN float finish_row(float row_d, float mean, float tree, float mean_tree) {
    if constexpr (T::kRule == Rule::kBlockScale) return tree;
    const float y = row_d * T::kGain * T::kValueStep * tree;
    if constexpr (T::kHasMean) return fma_f32(mean, mean_tree, y);
    return y;
}

}  // namespace espalier
