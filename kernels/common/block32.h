// The common ground of all quantized types: 32 consecutive weights as integers, with what multiplies them.
//
// A type is a struct of static members (kt_blocks.h, iqk_blocks.h, ...):
//   kBlockWeights, kBlockBytes, kHeaderBytes   the file layout: a row is its header, then n / kBlockWeights blocks
//   kTailNibbles                               half bytes of each 32-block after the last whole block; 0 where rows are
//                                              whole blocks. A row with such a tail is filled up to a multiple of 4 bytes
//   kRule, kScalesInDot, kHasMin, kHasMean     how the pieces below enter (this page)
//   kGain, kValueStep                          what a linear multiplies d by; the unit of q
//   decode(block, b, out)                      32-block b (0 .. kBlockWeights / 32 - 1) of the file block at `block`
//   decode_tail(tail, n_blocks, b, out)        kTailNibbles: 32-block b (0 .. n_blocks - 1) of the tail at `tail`
//   row_d(row), row_mean(row)                  from the row header (1 and 0 for types without)
// and accessors of its raw fields for code that restates the decode in vectors.
//
// Both meanings of a row derive from these integers.
//
// 1. The weights (dequantize.h), float32, each product rounded, in this order; i = j / 16:
//      Rule::kRowScale     w = (row_d * scale[i]) * (q * kValueStep)     kHasMean: w = fma(row_d * scale[i], q * kValueStep, mean)
//      Rule::kBlockScale   w = (d * scale[i]) * q                        kHasMin:  w = (d * scale[i]) * q - dmin * min[i]
//
// 2. A linear with int8 activations a, block factor dx, sum = sum_lo + sum_hi = sum of a (linear_formula.h), b the row's 32-block:
//      not kScalesInDot    dot = sum of q * a                            acc[p] = fma(float(dot), dx * float(scale[0]), acc[p])
//      kScalesInDot        dot = scale[0] * dot_lo + scale[1] * dot_hi   acc[p] = fma(float(dot), dx * d, acc[p])
//                          kHasMin, straight after:                      acc[p] = fma(float(min[0] * sum_lo + min[1] * sum_hi), dx * -dmin, acc[p])
//    p = (b mod 8) / 2; tree(acc) = (acc0 + acc1) + (acc2 + acc3);
//      y = D * tree(acc)                                                 D = (row_d * kGain) * kValueStep;  kBlockScale: y = tree(acc)
//      kHasMean: accm[p] = fma(float(sum), dx, accm[p]);                 y = fma(mean, tree(accm), D * tree(acc)), the product rounded first
#pragma once

#include "portability.h"

namespace espalier {

enum class Rule { kRowScale, kBlockScale };

struct Block32 {
    int16_t q[32];     // signed weight integers, in order; no scale or gain applied
    int32_t scale[2];  // integer scale of weights 0..15 and 16..31; equal where not kScalesInDot
    int32_t min[2];    // integer minimum of the same halves, kHasMin only, else 0
    float d;           // the float factor that the (super-)block stores; 1 under kRowScale
    float dmin;        // the float factor of min, else 0
    uint32_t minus_zeros;  // bit j: weight j is -0.0, a stored sign on a magnitude of zero
};

// The members of a type that has no header, minimum, mean or gain. A type derives from it and says what differs.
struct PlainType {
    static constexpr int kHeaderBytes = 0;
    static constexpr int kTailNibbles = 0;
    static constexpr Rule kRule = Rule::kBlockScale;
    static constexpr bool kScalesInDot = true;  // Rule::kRowScale: only where a 32-block's two scales may differ
    static constexpr bool kHasMin = false;
    static constexpr bool kHasMean = false;
    static constexpr float kGain = 1.0f;
    static constexpr float kValueStep = 1.0f;
    static constexpr float kLargestCode = 1.0f;  // above 1 only where a finite factor times a code may overflow

    static ESP_FN float row_d(const uint8_t*) { return 1.0f; }
    static ESP_FN float row_mean(const uint8_t*) { return 0.0f; }
};

// The members of a type whose row begins with a float32 d.
struct RowScaledType : PlainType {
    static constexpr int kHeaderBytes = 4;
    static constexpr Rule kRule = Rule::kRowScale;
    static constexpr bool kScalesInDot = false;

    static ESP_FN float row_d(const uint8_t* row) { return read_f32(row); }
};

// ... or with a float16 d.
struct HalfRowScaledType : RowScaledType {
    static constexpr int kHeaderBytes = 2;

    static ESP_FN float row_d(const uint8_t* row) { return read_f16(row); }
};

ESP_FN void set_row_scales(int scale_lo, int scale_hi, Block32& out) {
    out.scale[0] = scale_lo;
    out.scale[1] = scale_hi;
    out.min[0] = out.min[1] = 0;
    out.d = 1.0f;
    out.dmin = 0.0f;
    out.minus_zeros = 0;
}

ESP_FN void set_row_scale(int scale, Block32& out) { set_row_scales(scale, scale, out); }

ESP_FN void set_block_scale(float d, int scale_lo, int scale_hi, Block32& out) {
    out.scale[0] = scale_lo;
    out.scale[1] = scale_hi;
    out.min[0] = out.min[1] = 0;
    out.d = d;
    out.dmin = 0.0f;
    out.minus_zeros = 0;
}

}  // namespace espalier
