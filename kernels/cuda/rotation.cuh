// Rotary positions of one head, by the threads of a block.
#pragma once

#include "cuda/intrinsics.cuh"

namespace espalier {

// Pairs of x and y that belong together: (2i, 2i + 1) where interleaved, else (i, i + half).
struct Rotation {
    const float* turn;  // [half, 2]  cos and sin of the token
    int half, interleaved;
};

// x, y [head_dim]: the first 2 * half values rotated, the others as they are.
ESP_FN void rotate_head(const float* x, const Rotation& rotation, int head_dim, float* y) {
    const float* turn = rotation.turn;
    const int half = rotation.half, step = rotation.interleaved ? 2 : 1, apart = rotation.interleaved ? 1 : half;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        const float low = x[i * step], high = x[i * step + apart];
        y[i * step] = low * turn[2 * i] - high * turn[2 * i + 1];
        y[i * step + apart] = high * turn[2 * i] + low * turn[2 * i + 1];
    }
    for (int i = 2 * half + threadIdx.x; i < head_dim; i += blockDim.x) y[i] = x[i];
}

}  // namespace espalier
