// The loops of ceilings.h over simd.h, for one tier. Operands pass through `opaque`, an empty instruction that the
// compiler has to take for a change, so that it neither hoists a product out of a loop nor drops it.
#pragma once

#include "common/tables.h"
#include "cpu/ceilings.h"
#include "cpu/simd.h"

namespace espalier::ESPALIER_TIER {

#if ESPALIER_TIER_ID == ESPALIER_AVX512_TIER
static inline void opaque(I32& x) { asm volatile("" : "+v"(x.v)); }
static inline void opaque(F32& x) { asm volatile("" : "+v"(x.v)); }
#elif ESPALIER_TIER_ID == ESPALIER_AVX2_TIER
static inline void opaque(I32& x) { asm volatile("" : "+x"(x.lo), "+x"(x.hi)); }
static inline void opaque(F32& x) { asm volatile("" : "+x"(x.lo), "+x"(x.hi)); }
#else
static inline void opaque(I32& x) { asm volatile("" : "+m"(x)); }
static inline void opaque(F32& x) { asm volatile("" : "+m"(x)); }
#endif

// Written out for AVX512, where GCC 12 would copy each sum twice.
static inline I32 dot4_in_place(I32 acc, I32 u8, I32 s8) {
#if ESPALIER_TIER_ID == ESPALIER_AVX512_TIER
    asm volatile("vpdpbusd %1, %2, %0" : "+v"(acc.v) : "v"(s8.v), "v"(u8.v));
    return acc;
#else
    return dot4(acc, u8, s8);
#endif
}

// Two dots of bytes up to 63, in the form that a tier's kernels have for them.
static inline void dot4_pair(I32& acc0, I32& acc1, I32 u0, I32 u1, I32 a) {
#if ESPALIER_TIER_ID == ESPALIER_AVX2_TIER
    acc0.lo = dot4_pair_half(acc0.lo, u0.lo, a.lo, u1.lo, a.lo);
    acc1.hi = dot4_pair_half(acc1.hi, u0.hi, a.hi, u1.hi, a.hi);
#else
    acc0 = dot4_in_place(acc0, u0, a);
    acc1 = dot4_in_place(acc1, u1, a);
#endif
}

// Independent sums, enough to hide a dot's or a fused multiply-add's latency; AVX2 has half of the registers.
constexpr int kSums = ESPALIER_TIER_ID == ESPALIER_AVX512_TIER ? 12 : 4;

static void trellis_loop(int64_t n_weights) {
    I32 sums[kSums], state = splat(0x12345), a = splat(0x01010101);
    const I32 mask = splat(0x3f3f3f3f), multiplier = splat(static_cast<int32_t>(kTrellisMultiplier));
    for (I32& sum : sums) sum = splat(0);
    for (int64_t i = 0; i < n_weights; i += kSums * kLanes) {
#pragma GCC unroll 6
        for (int s = 0; s < kSums; s += 2) {
            opaque(state);
            const I32 even = bit_and(mul(state, multiplier), mask);
            opaque(state);
            dot4_pair(sums[s], sums[s + 1], even, bit_and(mul(state, multiplier), mask), a);
        }
    }
    for (I32& sum : sums) opaque(sum);
}

static void dots_loop(int64_t n_macs) {
    I32 sums[kSums], u = splat(0x3f3f3f3f), a = splat(0x01010101);
    for (I32& sum : sums) sum = splat(0);
    for (int64_t i = 0; i < n_macs; i += kSums * 4 * kLanes) {
#pragma GCC unroll 6
        for (int s = 0; s < kSums; s += 2) {
            opaque(u);
            I32 other = u;
            opaque(other);
            dot4_pair(sums[s], sums[s + 1], u, other, a);
        }
    }
    for (I32& sum : sums) opaque(sum);
}

static void fmas_loop(int64_t n_macs) {
    F32 sums[kSums], x = splat(1.0f), y = splat(0.5f);
    for (F32& sum : sums) sum = splat(0.0f);
    for (int64_t i = 0; i < n_macs; i += kSums * kLanes) {
#pragma GCC unroll 12
        for (int s = 0; s < kSums; ++s) {
            opaque(x);
            sums[s] = fma(x, y, sums[s]);
        }
    }
    for (F32& sum : sums) opaque(sum);
}

static void read_loop(const uint8_t* bytes, int64_t n_bytes) {
    I32 seen[4] = {splat(0), splat(0), splat(0), splat(0)};
    int64_t i = 0;
    for (; i + 256 <= n_bytes; i += 256) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            prefetch(bytes + i + 64 * v + 4096);
            seen[v] = bit_or(seen[v], load_bytes(bytes + i + 64 * v));
        }
    }
    for (; i < n_bytes; i += 64) seen[0] = bit_or(seen[0], load_bytes(bytes + i));
    for (I32& x : seen) opaque(x);
}

constexpr CeilingLoops kCeilingLoops = {trellis_loop, dots_loop, fmas_loop, read_loop};

}  // namespace espalier::ESPALIER_TIER
