// The one arithmetic of every linear operation, one row of weights against one row of activations, scalar and
// plain. Every faster kernel gives these bits; block32.h states the rule of each type.
#pragma once

#include "tensor_types.h"

namespace espalier {

// Activations of 32 columns as int8: dx = amax / 127, q = round to nearest even of x / dx (float32 divisions).
// A block whose dx is below the smallest normal float is a block of zeros: q = 0, dx = 0 (so no kernel meets a
// subnormal divisor, and |q| never passes 127). A block with a NaN or an infinity gets q = 0, dx = NaN: its own
// token's outputs become NaN and no other's.
// x [32], q [32]; sums the exact sums of q[0..15] and q[16..31].
ESP_FN float quantize_activations32(const float* x, int8_t* q, int32_t* sums) {
    float amax = 0.0f;
    bool finite = true;
    for (int j = 0; j < 32; ++j) {
        const float magnitude = float_from_bits(bits_from_float(x[j]) & 0x7FFFFFFFu);
        finite = finite && magnitude < float_from_bits(0x7F800000u);
        amax = magnitude > amax ? magnitude : amax;
    }
    const float dx = amax / 127.0f;
    const bool zeros = !finite || dx < 0x1p-126f;
    sums[0] = sums[1] = 0;
    for (int j = 0; j < 32; ++j) {
        q[j] = zeros ? int8_t(0) : int8_t(round_even(x[j] / dx));
        sums[j >> 4] += q[j];
    }
    if (!finite) return float_from_bits(0x7FC00000u);
    return zeros ? 0.0f : dx;
}

// With two planes of activations a linear is computed for x and again, by the same formula, for what the int8 form leaves
// of x; y is the float32 sum of the two, and a residual or a gate comes after it. The rest of 32 columns, one rounding
// each: where dx is NaN it is NaN, where q and dx are zeros it is x, which quantizes to zeros again.
// x, q, dx as quantize_activations32 took and gave them; rest [32].
ESP_FN void rest_of_activations32(const float* x, const int8_t* q, float dx, float* rest) {
    for (int j = 0; j < 32; ++j) rest[j] = fma_f32(-float(q[j]), dx, x[j]);
}

struct Chains {
    float acc[4];

    ESP_FN void clear() { acc[0] = acc[1] = acc[2] = acc[3] = 0.0f; }
    ESP_FN float tree() const { return (acc[0] + acc[1]) + (acc[2] + acc[3]); }
};

// The chain that 32-block b of a row belongs to.
ESP_FN int chain_of(int64_t b) { return int(b & 7) >> 1; }

// Exact: the largest type (3INST) reaches 32 * 32752 * 127 < 2^31.
template <class T>
ESP_FN int32_t dot_block32(const Block32& w, const int8_t* q) {
    int32_t low = 0, high = 0;
    for (int j = 0; j < 16; ++j) {
        low += w.q[j] * q[j];
        high += w.q[16 + j] * q[16 + j];
    }
    return T::kScalesInDot ? w.scale[0] * low + w.scale[1] * high : low + high;
}

// row: one file row of n weights. q [n] int8 activations, dx [n / 32] their factors, sums [n / 32, 2] the sums
// of their halves.
template <class T>
ESP_FN float linear_row(const uint8_t* row, int64_t n, const int8_t* q, const float* dx, const int32_t* sums) {
    Chains chains, mean_chains;
    chains.clear();
    mean_chains.clear();
    Block32 w;
    for (int64_t b = 0; b < n / 32; ++b) {
        decode_block32<T>(row, n, b, w);
        float& acc = chains.acc[chain_of(b)];
        const float s = T::kScalesInDot ? w.d : float(w.scale[0]);
        acc = fma_f32(float(dot_block32<T>(w, q + 32 * b)), dx[b] * s, acc);
        if constexpr (T::kHasMin) {
            const int32_t minimum = w.min[0] * sums[2 * b] + w.min[1] * sums[2 * b + 1];
            acc = fma_f32(float(minimum), dx[b] * -w.dmin, acc);
        }
        if constexpr (T::kHasMean) {
            float& mean_acc = mean_chains.acc[chain_of(b)];
            mean_acc = fma_f32(float(sums[2 * b] + sums[2 * b + 1]), dx[b], mean_acc);
        }
    }
    if constexpr (T::kRule == Rule::kBlockScale) return chains.tree();
    const float y = T::row_d(row) * T::kGain * T::kValueStep * chains.tree();
    if constexpr (T::kHasMean) return fma_f32(T::row_mean(row), mean_chains.tree(), y);
    return y;
}

// The dense formula (dense.h). x [n], any n.
template <class T>
ESP_FN float linear_dense_row(const uint8_t* row, int64_t n, const float* x) {
    Chains chains;
    chains.clear();
    for (int64_t k = 0; k < n; ++k) {
        float& acc = chains.acc[chain_of(k / 32)];
        acc = fma_f32(T::value(row + k * T::kBytes), x[k], acc);
    }
    return chains.tree();
}

}  // namespace espalier
