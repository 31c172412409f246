// Sixteen lanes of 32 bits with one meaning on every tier. Kernels are written once over these names.
//
// A tier's translation unit defines ESPALIER_TIER (scalar, avx2 or avx512), includes this file and then the
// kernels; everything lands in the namespace espalier::ESPALIER_TIER with internal linkage, so that code compiled
// for a newer CPU can never be picked by the linker for an older one. Use no std:: templates in these units.
//
//   F32   16 floats                     I32   16 int32, also read as 64 bytes: byte 4 * lane + i
//   Mask  16 truth values, one a lane
//
// Every operation gives the same bits on every tier: fma has one rounding, max(a, b) is a > b ? a : b,
// conversions to integers round half to even, reductions are the halving tree (lane i with lane i + 8, ...).
#pragma once

#include <cstddef>
#include <cstdint>

#define ESPALIER_SCALAR_TIER 1
#define ESPALIER_AVX2_TIER 2
#define ESPALIER_AVX512_TIER 3

#ifndef ESPALIER_TIER
#error "define ESPALIER_TIER and ESPALIER_TIER_ID before including simd.h"
#endif

#if ESPALIER_TIER_ID == ESPALIER_AVX512_TIER
#include "cpu/simd_avx512.h"
#elif ESPALIER_TIER_ID == ESPALIER_AVX2_TIER
#include "cpu/simd_avx2.h"
#else
#include "cpu/simd_scalar.h"
#endif

namespace espalier::ESPALIER_TIER {

constexpr int kLanes = 16;

static inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
static inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second-level cache

}  // namespace espalier::ESPALIER_TIER
