// silu(gate) * up behind the launch that multiplies both matrices: whichever block writes the last of the rows that make 32
// outputs does them. So no second launch waits for the first, and which block it is changes no bit.
#pragma once

#include "cuda/float_math.cuh"
#include "cuda/quantize.cuh"

namespace espalier {

ESP_FN float silu_product(float gate, float up) { return sigmoid_product(gate, gate) * up; }

// gate, up    float32 [n_tokens, n_out], written by this launch; n_out a multiple of 32
// y, q, dx, sums   the product [n_tokens, n_out] and its int8 form
// arrivals    int32, one for each 32 rows and group of tokens, zero before and after the launch
struct Gated {
    const float *gate, *up;
    float* y;
    int8_t* q;
    float* dx;
    int *sums, *arrivals;
    int n_out, n_tokens;
};

// Every thread of a block calls it when the block's rows first_row .. + kRows - 1, of either matrix, are written for its
// kTokens tokens.
template <int kRows, int kTokens>
ESP_FN void finish_gated(const Gated& gated, int first_row, int first_token) {
    constexpr int kArrivals = kRows < 32 ? 2 * (32 / kRows) : 2;
    __shared__ bool is_last;
    if (gated.y == nullptr) return;
    fence_device();
#pragma unroll 1
    for (int row = first_row / 32 * 32; row < min(first_row + kRows, gated.n_out); row += 32) {
        block_sync();
        if (threadIdx.x == 0) {
            int* arrivals = gated.arrivals + first_token / kTokens * (gated.n_out / 32) + row / 32;
            is_last = atomic_add(arrivals, 1) == kArrivals - 1;
            if (is_last) *arrivals = 0;
        }
        block_sync();
        if (!is_last) continue;
        fence_device();
        const int lane = threadIdx.x & 31, n_warps = blockDim.x / 32;
        const int end = min(first_token + kTokens, gated.n_tokens);
#pragma unroll 1
        for (int token = first_token + int(threadIdx.x >> 5); token < end; token += n_warps) {
            const int64_t at = int64_t(token) * gated.n_out + row + lane;
            const float value = silu_product(load_fresh(gated.gate + at), load_fresh(gated.up + at));
            gated.y[at] = value;
            quantize_block(value, row / 32, quantized_row(gated.q, gated.dx, gated.sums, token, gated.n_out));
        }
    }
}

}  // namespace espalier
