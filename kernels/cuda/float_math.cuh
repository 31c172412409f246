// The CPU backend's exponential and its halving sum, step for step, so that both backends give the same bits
// (kernels/cpu/vector_math.h and simd.h; the library's expf would not).
#pragma once

#include "cuda/intrinsics.cuh"

namespace espalier {

// exp(x) within 2 ulp: 0 below -87.33, the largest finite result above 88.37, NaN stays NaN.
ESP_FN float exponential(float x) {
    const float low = -87.33654f, high = 88.37626f;
    float t = low > x ? low : x;  // in this order a NaN passes
    t = high < t ? high : t;
    const float kf = round_even(t * 1.44269504f);
    float r = fma_f32(kf, -0.693359375f, t);
    r = fma_f32(kf, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fma_f32(p, r, 1.3981999507e-3f);
    p = fma_f32(p, r, 8.3334519073e-3f);
    p = fma_f32(p, r, 4.1665795894e-2f);
    p = fma_f32(p, r, 1.6666665459e-1f);
    p = fma_f32(p, r, 0.5f);
    p = fma_f32(p * r, r, r) + 1.0f;
    const float power = kf == kf ? float_from_bits(uint32_t(int(kf) + 127) << 23) : kf;
    return x < low ? 0.0f : p * power;
}

// x * sigmoid(gate) in one division.
ESP_FN float sigmoid_product(float x, float gate) { return x / (1.0f + exponential(0.0f - gate)); }

// Sum of the first sixteen lanes' values, in lane 0: lane i takes in lane i + 8, then + 4, + 2, + 1. Whole warps call it.
ESP_FN float halving_sum(float v) {
#pragma unroll
    for (int half = 8; half > 0; half /= 2) v = v + shfl_down(v, half);
    return v;
}

}  // namespace espalier
