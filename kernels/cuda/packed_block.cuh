// A decoded 32-block as words of four bytes, for dp4a and the tensor cores, with the factors of the linear formula.
#pragma once

#include "cuda/linear_parts.cuh"

namespace espalier {

// 3INST weights need 16 bits and enter as 256 * high + low, the low byte unsigned; all others are int8.
template <class T>
constexpr bool kWide = T::kValueStep != 1.0f;

// Types whose two scales of 16 columns can differ: their dot product has two parts.
template <class T>
constexpr bool kTwoScales = T::kScalesInDot;

struct BlockFactors {
    float scale;        // s_b of the formula
    float minus_dmin;   // kHasMin
    int scale_lo, scale_hi, min_lo, min_hi;
};

template <class T>
ESP_FN BlockFactors block_factors(const Block32& w) {
    return {T::kScalesInDot ? w.d : float(w.scale[0]), -w.dmin, w.scale[0], w.scale[1], w.min[0], w.min[1]};
}

template <class T>
struct PackedBlock {
    uint32_t low[8];                 // columns 4j .. 4j + 3; all of the weight unless kWide
    uint32_t high[kWide<T> ? 8 : 1];

    ESP_FN void pack(const Block32& w) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            low[j] = bytes(w.q + 4 * j, 0);
            if constexpr (kWide<T>) high[j] = bytes(w.q + 4 * j, 8);
        }
    }
    static ESP_FN uint32_t bytes(const int16_t* q, int shift) {
        return (uint32_t(q[0]) >> shift & 255u) | (uint32_t(q[1]) >> shift & 255u) << 8 |
               (uint32_t(q[2]) >> shift & 255u) << 16 | (uint32_t(q[3]) >> shift & 255u) << 24;
    }

    // The dot with columns 16 half .. 16 half + 15 of the activations a [8 words].
    ESP_FN int dot_half(const uint32_t* a, int half) const {
        int low_dot = 0, high_dot = 0;
#pragma unroll
        for (int j = 4 * half; j < 4 * half + 4; ++j) {
            if constexpr (kWide<T>) {
                low_dot = dp4a_u8s8(low[j], a[j], low_dot);
                high_dot = dp4a_s8s8(high[j], a[j], high_dot);
            } else {
                low_dot = dp4a_s8s8(low[j], a[j], low_dot);
            }
        }
        return low_dot + 256 * high_dot;
    }
    ESP_FN int dot(const uint32_t* a, const BlockFactors& f) const {
        const int lo = dot_half(a, 0), hi = dot_half(a, 1);
        return kTwoScales<T> ? f.scale_lo * lo + f.scale_hi * hi : lo + hi;
    }
};

}  // namespace espalier
