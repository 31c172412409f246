// int8 activations per 32 columns (common/linear_formula.h, quantize_activations32), a warp for each block.
#pragma once

#include "common/portability.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

// The sums of a block's int8 activations share a word: of all 32 above, of the first 16 in the low half. They stay within
// 32 * 127.
ESP_FN int pack_sums(int all, int low) { return int(uint32_t(all) << 16 | (uint32_t(low) & 0xFFFFu)); }
ESP_FN int sum_of_all(int sums) { return sums >> 16; }
ESP_FN int sum_of_low(int sums) { return int16_t(sums); }
ESP_FN int sum_of_high(int sums) { return sum_of_all(sums) - sum_of_low(sums); }

// Where a row's quantized form goes: q int8 [n_in], dx float32 and sums [n_in / 32]. q null: nobody wants it.
struct QuantizedRow {
    int8_t* q;
    float* dx;
    int* sums;
};

// The buffers of a whole pass -> those of one row. n_in is a multiple of 32 wherever q is not null.
ESP_FN QuantizedRow quantized_row(int8_t* q, float* dx, int* sums, int row, int n_in) {
    if (q == nullptr) return {nullptr, nullptr, nullptr};
    return {q + int64_t(row) * n_in, dx + int64_t(row) * (n_in / 32), sums + int64_t(row) * (n_in / 32)};
}

// The lanes of a warp bring the 32 columns of block b, and get what its int8 form leaves of them (rest_of_activations32).
// Whole warps call it.
ESP_FN float quantize_block(float x, int b, const QuantizedRow& out) {
    const int lane = threadIdx.x & 31;
    const uint32_t magnitude = bits_from_float(x) & 0x7FFFFFFFu;
    const bool finite = warp_all(magnitude < 0x7F800000u);
    // Bits of magnitudes compare as the floats do.
    const float dx = float_from_bits(warp_max(magnitude)) / 127.0f;
    const bool zeros = !finite || dx < 0x1p-126f;
    const int q = zeros ? 0 : int(round_even(x / dx));
    out.q[32 * b + lane] = int8_t(q);
    const int all = warp_add(q), low = warp_add(lane < 16 ? q : 0);
    const float factor = !finite ? float_from_bits(0x7FC00000u) : zeros ? 0.0f : dx;
    if (lane == 0) {
        out.dx[b] = factor;
        out.sums[b] = pack_sums(all, low);
    }
    return fma_f32(-float(q), factor, x);
}

}  // namespace espalier
