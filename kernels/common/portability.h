// What a C++17 host compiler and NVRTC do not share, and nothing else: fixed-width types, where a function or
// a table lives, and the few float operations whose rounding the formats depend on.
// Everything in this folder is compiled without contraction (-ffp-contract=off, --fmad=false): an fma is
// written where one is meant, and a product followed by a sum is two roundings.
#pragma once

#if defined(__CUDACC_RTC__)
#define ESP_FN __host__ __device__ inline
#define ESP_TABLE __constant__ const
#else
#include <cstdint>
#if defined(__CUDACC__)
#define ESP_FN __host__ __device__ inline
#define ESP_TABLE __constant__ const
#else
#define ESP_FN inline
#define ESP_TABLE inline constexpr
#endif
#endif
#define ESP_NUMBER constexpr

namespace espalier {

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#else
using std::int16_t;
using std::int32_t;
using std::int64_t;
using std::int8_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;
#endif

ESP_FN float float_from_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

ESP_FN uint32_t bits_from_float(float value) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value);
#else
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

// a * b + c, rounded once.
ESP_FN float fma_f32(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

// The nearest integer, ties to even.
ESP_FN float round_even(float x) {
#if defined(__CUDA_ARCH__)
    return rintf(x);
#else
    return __builtin_rintf(x);
#endif
}

// Files are little endian and their fields lie at any address, so fields are read byte by byte.
ESP_FN uint32_t read_u16(const uint8_t* p) { return p[0] | uint32_t(p[1]) << 8; }
ESP_FN uint32_t read_u32(const uint8_t* p) { return read_u16(p) | read_u16(p + 2) << 16; }
ESP_FN float read_f32(const uint8_t* p) { return float_from_bits(read_u32(p)); }

// IEEE half to single, in integers: the same bits everywhere, subnormals, infinities and NaN payloads included.
ESP_FN float f16_to_f32(uint32_t half) {
    const uint32_t sign = (half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 31u;
    const uint32_t mantissa = half & 0x3FFu;
    if (exponent == 31) return float_from_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent != 0) return float_from_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
    const float magnitude = float(mantissa) * 0x1p-24f;  // zero or subnormal: exact
    return sign ? -magnitude : magnitude;
}

ESP_FN float read_f16(const uint8_t* p) { return f16_to_f32(read_u16(p)); }
ESP_FN float bf16_to_f32(uint32_t bits) { return float_from_bits(bits << 16); }

// Nibble `high` (0: bits 0-3, 1: bits 4-7) of a byte.
ESP_FN int nibble(uint8_t byte, int high) { return (byte >> (4 * high)) & 15; }
ESP_FN int bit(uint32_t word, int i) { return (word >> i) & 1u; }

}  // namespace espalier
