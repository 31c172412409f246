// The exponential, RMS norm, gated SiLU and gated GELU over the vectors of simd.h.
#pragma once

#include "cpu/simd.h"

namespace espalier::ESPALIER_TIER {

// exp(x) by reduction to |r| <= ln(2) / 2 and a polynomial of degree 6; within 2 ulp. 0 below -87.33 (where the
// result would be subnormal), the largest finite result above 88.37. NaN stays NaN.
static inline F32 exponential(F32 x) {
    const F32 low = splat(-87.33654f), minus_high = splat(-88.37626f);
    F32 t = max(low, x);  // in this order a NaN passes
    t = sub(splat(0.0f), max(minus_high, sub(splat(0.0f), t)));
    const I32 k = round_to_int(mul(t, splat(1.44269504f)));
    const F32 kf = to_float(k);
    F32 r = fma(kf, splat(-0.693359375f), t);
    r = fma(kf, splat(2.12194440e-4f), r);
    F32 p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(0.5f));
    p = fma(mul(p, r), r, r);
    p = add(p, splat(1.0f));
    const F32 power = bits_to_float(shift_left<23>(add(k, splat(127))));
    return select(less(x, low), splat(0.0f), mul(p, power));
}

static inline float sum_of_squares(const float* x, int64_t n) {
    F32 acc[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (int j = 0; j < 4; ++j) {
            const F32 v = load(x + i + 16 * j);
            acc[j] = fma(v, v, acc[j]);
        }
    }
    for (; i < n; i += 16) {
        const F32 v = load_first(x + i, int(n - i < 16 ? n - i : 16));
        acc[0] = fma(v, v, acc[0]);
    }
    return reduce_add(add(add(acc[0], acc[1]), add(acc[2], acc[3])));
}

static void rms_norm(const float* x, const float* weight, float eps, int64_t n, int64_t n_rows, float* y) {
    for (int64_t row = 0; row < n_rows; ++row, x += n, y += n) {
        const float mean = sum_of_squares(x, n) / float(n);
        const F32 root = sqrt(splat(mean + eps));
        for (int64_t i = 0; i < n; i += 16) {
            const int lanes = int(n - i < 16 ? n - i : 16);
            store_first(y + i, mul(div(load_first(x + i, lanes), root), load_first(weight + i, lanes)), lanes);
        }
    }
}

static void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t n, int64_t n_rows, float* y) {
    for (int64_t row = 0; row < n_rows; ++row, x += n, y += n) {
        F32 sum = splat(0.0f), squares = splat(0.0f);
        for (int64_t i = 0; i < n; i += 16) sum = add(sum, load_first(x + i, int(n - i < 16 ? n - i : 16)));
        const F32 mean = splat(reduce_add(sum) / float(n));
        for (int64_t i = 0; i < n; i += 16) {
            const int lanes = int(n - i < 16 ? n - i : 16);
            store_first(y + i, sub(load_first(x + i, lanes), mean), lanes);
            const F32 difference = load_first(y + i, lanes);  // zeros in the lanes past the row
            squares = fma(difference, difference, squares);
        }
        const F32 root = sqrt(splat(reduce_add(squares) / float(n) + eps));
        for (int64_t i = 0; i < n; i += 16) {
            const int lanes = int(n - i < 16 ? n - i : 16);
            const F32 scaled = mul(div(load_first(y + i, lanes), root), load_first(weight + i, lanes));
            store_first(y + i, add(scaled, load_first(bias + i, lanes)), lanes);
        }
    }
}

static void silu_mul(const float* gate, const float* up, int64_t n, float* y) {
    const F32 one = splat(1.0f), zero = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const int lanes = int(n - i < 16 ? n - i : 16);
        const F32 g = load_first(gate + i, lanes);
        const F32 silu = div(g, add(one, exponential(sub(zero, g))));
        store_first(y + i, mul(silu, load_first(up + i, lanes)), lanes);
    }
}

// x / 2 * (1 + tanh(y)) = x / (1 + exp(-2 y)), y = sqrt(2 / pi) * x * (1 + 0.044715 x^2)
static void gelu_mul(const float* gate, const float* up, int64_t n, float* y) {
    const F32 one = splat(1.0f), cubic = splat(0.044715f), minus_slope = splat(-1.5957691216f);
    for (int64_t i = 0; i < n; i += 16) {
        const int lanes = int(n - i < 16 ? n - i : 16);
        const F32 g = load_first(gate + i, lanes);
        const F32 minus_twice_y = mul(mul(minus_slope, g), fma(mul(g, g), cubic, one));
        const F32 gelu = div(g, add(one, exponential(minus_twice_y)));
        store_first(y + i, mul(gelu, load_first(up + i, lanes)), lanes);
    }
}

static void exp_of(const float* x, int64_t n, float* y) {
    for (int64_t i = 0; i < n; i += 16) {
        const int lanes = int(n - i < 16 ? n - i : 16);
        store_first(y + i, exponential(load_first(x + i, lanes)), lanes);
    }
}

}  // namespace espalier::ESPALIER_TIER
