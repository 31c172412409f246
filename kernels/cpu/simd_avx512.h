// The 64-byte vectors of simd.h on AVX512 F, BW, VL, DQ and VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace espalier::ESPALIER_TIER {

struct F32 {
    __m512 v;
};
struct I32 {
    __m512i v;
};
struct Mask {
    __mmask16 v;
};

static inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

// Floats.
static inline F32 splat(float x) { return {_mm512_set1_ps(x)}; }
static inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
// The first n lanes (0..16); the others read as zero and are not written.
static inline F32 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
static inline void store_first(float* p, F32 x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x.v); }
static inline F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
static inline F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
static inline Mask less(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
static inline F32 select(Mask m, F32 yes, F32 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
static inline F32 load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline F32 splat_f16(const uint16_t* p) { return {_mm512_set1_ps(_cvtsh_ss(*p))}; }
static inline void store_f16(uint16_t* p, F32 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline F32 to_float(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
static inline I32 round_to_int(F32 a) { return {_mm512_cvtps_epi32(a.v)}; }
static inline I32 float_bits(F32 a) { return {_mm512_castps_si512(a.v)}; }
static inline F32 bits_to_float(I32 a) { return {_mm512_castsi512_ps(a.v)}; }

static inline float reduce_add(F32 a) {
    __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float reduce_max(F32 a) {
    __m256 x = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

// Lane i of row j becomes lane j of row i. First in the 4 x 4 corners of four rows, then the corners among themselves.
static inline void transpose(F32* rows) {
    __m512 t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i].v, rows[i + 1].v));
        const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i].v, rows[i + 1].v));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)), t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)), t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512 even_low = _mm512_shuffle_f32x4(t[c], t[4 + c], 0x88), odd_low = _mm512_shuffle_f32x4(t[c], t[4 + c], 0xDD);
        const __m512 even_high = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x88);
        const __m512 odd_high = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xDD);
        rows[c].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        rows[8 + c].v = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
        rows[4 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        rows[12 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
    }
}

// Integers.
static inline I32 splat(int32_t x) { return {_mm512_set1_epi32(x)}; }
static inline I32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
static inline void store(int32_t* p, I32 x) { _mm512_storeu_si512(p, x.v); }
static inline I32 load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_bytes(uint8_t* p, I32 x) { _mm512_storeu_si512(p, x.v); }
// The lowest byte of each lane: 16 bytes.
static inline void store_low_bytes(int8_t* p, I32 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}
static inline int32_t reduce_add(I32 a) { return _mm512_reduce_add_epi32(a.v); }
static inline I32 widen_u8(const uint8_t* p) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline I32 widen_s8(const uint8_t* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline I32 widen_u16(const uint8_t* p) {
    return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline I32 add(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline I32 sub(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
static inline I32 mul(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
static inline I32 bit_and(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
static inline I32 bit_or(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
// The two halves of each unsigned 64-bit product a * b.
static inline void mul_wide(I32 a, uint32_t b, I32& high, I32& low) {
    const __m512i factor = _mm512_set1_epi64(b);
    const __m512i even = _mm512_mul_epu32(a.v, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), factor);
    low.v = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    high.v = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
static inline I32 bit_xor(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
static inline I32 abs(I32 a) { return {_mm512_abs_epi32(a.v)}; }
template <int N>
static inline I32 shift_left(I32 a) {
    return {_mm512_slli_epi32(a.v, N)};
}
template <int N>
static inline I32 shift_right(I32 a) {
    return {_mm512_srli_epi32(a.v, N)};
}
template <int N>
static inline I32 shift_right_signed(I32 a) {
    return {_mm512_srai_epi32(a.v, N)};
}
// Per byte.
static inline I32 add_bytes(I32 a, I32 b) { return {_mm512_add_epi8(a.v, b.v)}; }
static inline I32 sub_bytes(I32 a, I32 b) { return {_mm512_sub_epi8(a.v, b.v)}; }
// All ones in the unsigned bytes of a that are not below b's.
static inline I32 bytes_at_least(I32 a, I32 b) { return {_mm512_movm_epi8(_mm512_cmpge_epu8_mask(a.v, b.v))}; }
static inline I32 abs_bytes(I32 a) { return {_mm512_abs_epi8(a.v)}; }
// -a in the bytes where bit S of plane is set.
template <int S>
static inline I32 negate_bytes_where(I32 a, I32 plane) {
    const __mmask64 where = _mm512_test_epi8_mask(plane.v, _mm512_set1_epi8(static_cast<char>(1 << S)));
    return {_mm512_mask_sub_epi8(a.v, where, _mm512_setzero_si512(), a.v)};
}
// yes in the bytes where bit S of plane is set, no in the others.
template <int S>
static inline I32 select_bytes_where(I32 plane, I32 yes, I32 no) {
    const __mmask64 where = _mm512_test_epi8_mask(plane.v, _mm512_set1_epi8(static_cast<char>(1 << S)));
    return {_mm512_mask_mov_epi8(no.v, where, yes.v)};
}
// Per 16-bit half: a shifted left by the count in b (0..3).
static inline I32 shift_left_halves(I32 a, I32 b) { return {_mm512_sllv_epi16(a.v, b.v)}; }
// The low 16 bits of the product of each pair of halves.
static inline I32 mul_halves(I32 a, I32 b) { return {_mm512_mullo_epi16(a.v, b.v)}; }
static inline I32 sub_halves(I32 a, I32 b) { return {_mm512_sub_epi16(a.v, b.v)}; }
static inline I32 sign_of_halves(I32 a) { return {_mm512_srai_epi16(a.v, 15)}; }
// The two signed halves of each lane, added.
static inline I32 sum_halves(I32 a) { return {_mm512_madd_epi16(a.v, _mm512_set1_epi16(1))}; }

// A table of 16 bytes for lookup().
struct Table16 {
    __m512i v;
};
static inline Table16 load_table(const uint8_t* p) {
    return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
// table[index & 15] for each byte; index 0..127.
static inline I32 lookup(Table16 table, I32 index) { return {_mm512_shuffle_epi8(table.v, index.v)}; }
// table[index] for each lane, of sixteen floats; index 0..15.
static inline F32 lookup(F32 table, I32 index) { return {_mm512_permutexvar_ps(index.v, table.v)}; }
// table[index] for each lane.
static inline I32 gather(const uint32_t* table, I32 index) {
    return {_mm512_i32gather_epi32(index.v, table, 4)};
}

// acc + the dot product of each lane's four unsigned bytes with its four signed bytes; exact.
static inline I32 dot4(I32 acc, I32 u8, I32 s8) { return {_mm512_dpbusd_epi32(acc.v, u8.v, s8.v)}; }
// The four bytes at p in every lane. Written out because GCC 12 would fold it into each use, and load it again there.
static inline I32 splat_at(const int32_t* p) {
    I32 x;
    __asm__("vpbroadcastd %1, %0" : "=v"(x.v) : "m"(*p));
    return x;
}
// dot4 with the same four signed bytes at p in every lane. Written out because GCC 12 does not fold the broadcast
// into the instruction, and hoists it until registers spill.
static inline I32 dot4_at(I32 acc, I32 u8, const int32_t* p) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc.v) : "v"(u8.v), "m"(*p));
    return acc;
}
// dot4 where every unsigned byte is at most 63, for two pairs at once; acc0 + acc1 is what counts.
static inline void dot4_pair_u6_at(I32& acc0, I32& acc1, I32 u0, I32 u1, const int32_t* p) {
    acc0 = dot4_at(acc0, u0, p);
    acc1 = dot4_at(acc1, u1, p + 1);
}
// acc + the sum of each lane's four bytes, each at most 63.
static inline I32 add_byte_sums_u6(I32 acc, I32 a) {
    return {_mm512_dpbusd_epi32(acc.v, a.v, _mm512_set1_epi32(0x01010101))};
}

}  // namespace espalier::ESPALIER_TIER
