// Linear through a stack of matrices: a block of threads takes some rows of one matrix, and a tile of the activations'
// rows that go through it (experts.cu, sort_rows). The products are those of the kernels for one matrix, row by row.
//   grid  (sum over two parts of ceil(n_out / rows of a block), n_tiles); tiles without rows are left at once
#pragma once

#include "cuda/linear_parts.cuh"

namespace espalier {

// Parameters of a stack kernel, in this order; a second part that is not there has n_out 0.
//   weights0..1, bytes0..1   matrix after matrix, each so many bytes
//   y0..1                    float32 [n_rows, n_out], by place
//   q, dx, sums              int8 form of the rows [n_rows, n_in], by place
//   tiles                    int32 [n_tiles, 4]
#define ESP_STACK_PARAMETERS                                                                                         \
    const uint8_t *weights0, const uint8_t *weights1, int64_t bytes0, int64_t bytes1, float *y0, float *y1, int n_out0, \
        int n_out1, int n_in, const int8_t *q, const float *dx, const int *sums, const int *tiles
#define ESP_STACK \
    Stack { {weights0, weights1}, {bytes0, bytes1}, {y0, y1}, {n_out0, n_out1}, n_in, q, dx, sums, tiles + 4 * blockIdx.y }

struct Stack {
    const uint8_t* weights[2];
    int64_t bytes[2];
    float* y[2];
    int n_out[2];
    int n_in;
    const int8_t* q;
    const float* dx;
    const int* sums;
    const int* tile;  // matrix, first place, number of rows

    ESP_FN bool is_empty() const { return tile[2] == 0; }
    ESP_FN Part part(int rows_per_block) const {
        const int64_t matrix = tile[0], first = tile[1];
        return part_of_block({{weights[0] + matrix * bytes[0], weights[1] + matrix * bytes[1], nullptr},
                              {y[0] + first * n_out[0], y[1] + first * n_out[1], nullptr},
                              {n_out[0], n_out[1], 0},
                              nullptr},
                             blockIdx.x, rows_per_block);
    }
    ESP_FN Activations activations() const {
        const int64_t first = tile[1];
        return {q + first * n_in, dx + first * (n_in / 32), sums + first * (n_in / 32), n_in, tile[2]};
    }
};

}  // namespace espalier
