// CUDA's own names for a host compiler: keywords, vector types, where a thread is, scalar functions.
// What a kernel uses and this file lacks does not compile; add it here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#ifndef __launch_bounds__  // the harness keeps it when it reads the kernels' names
#define __launch_bounds__(...)
#endif
#define __grid_constant__
// Blocks run one after another on one thread of the host, so one copy serves. In thread-local storage the shared
// variables of a library lie together and the launch finds and spoils them all.
#define __shared__ static thread_local

#define ESP_VECTOR_TYPES(Value, name, align2, align4)                                                 \
    struct name##1 {                                                                                  \
        Value x;                                                                                      \
    };                                                                                                \
    struct alignas(align2) name##2 {                                                                  \
        Value x, y;                                                                                   \
    };                                                                                                \
    struct name##3 {                                                                                  \
        Value x, y, z;                                                                                \
    };                                                                                                \
    struct alignas(align4) name##4 {                                                                  \
        Value x, y, z, w;                                                                             \
    };                                                                                                \
    inline name##2 make_##name##2(Value x, Value y) { return {x, y}; }                                \
    inline name##3 make_##name##3(Value x, Value y, Value z) { return {x, y, z}; }                    \
    inline name##4 make_##name##4(Value x, Value y, Value z, Value w) { return {x, y, z, w}; }
ESP_VECTOR_TYPES(int, int, 8, 16)
ESP_VECTOR_TYPES(unsigned, uint, 8, 16)
ESP_VECTOR_TYPES(float, float, 8, 16)
ESP_VECTOR_TYPES(signed char, char, 2, 4)
ESP_VECTOR_TYPES(unsigned char, uchar, 2, 4)
ESP_VECTOR_TYPES(short, short, 4, 8)
ESP_VECTOR_TYPES(unsigned short, ushort, 4, 8)
#undef ESP_VECTOR_TYPES

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// Set whenever a thread goes on.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---- bits

inline int __float_as_int(float x) {
    int bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline unsigned __float_as_uint(float x) { return unsigned(__float_as_int(x)); }
inline float __int_as_float(int bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(int(bits)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(std::uint64_t(a) * b >> 32); }

// ---- arithmetic with one rounding each; the host compiles without contraction too

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }
// Saturates as the device does; NaN becomes 0.
inline int __float2int_rn(float x) {
    if (x != x) return 0;
    return x >= 2147483648.0f ? 2147483647 : x <= -2147483648.0f ? int(0x80000000u) : int(std::nearbyint(x));
}

// ---- functions whose last bits differ from the device's

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }

// ---- min and max; a NaN argument of the float ones gives the other argument, as on the device

#define ESP_MIN_MAX(Value)                                          \
    inline Value min(Value a, Value b) { return b < a ? b : a; }    \
    inline Value max(Value a, Value b) { return a < b ? b : a; }
ESP_MIN_MAX(int)
ESP_MIN_MAX(unsigned)
ESP_MIN_MAX(long long)
ESP_MIN_MAX(unsigned long long)
#undef ESP_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
