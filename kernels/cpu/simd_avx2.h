// The 64-byte vectors of simd.h as two AVX2 halves (with FMA and F16C).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace espalier::ESPALIER_TIER {

struct F32 {
    __m256 lo, hi;
};
struct I32 {
    __m256i lo, hi;
};
struct Mask {
    __m256 lo, hi;
};

// All ones in the lanes below n, counted from lane `first`.
static inline __m256i lanes_below(int n, int first) {
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

// Floats.
static inline F32 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float* p, F32 x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
static inline F32 load_first(const float* p, int n) {
    return {_mm256_maskload_ps(p, lanes_below(n, 0)), _mm256_maskload_ps(p + 8, lanes_below(n, 8))};
}
static inline void store_first(float* p, F32 x, int n) {
    _mm256_maskstore_ps(p, lanes_below(n, 0), x.lo);
    _mm256_maskstore_ps(p + 8, lanes_below(n, 8), x.hi);
}
static inline F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline F32 fma(F32 a, F32 b, F32 c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline F32 abs(F32 a) {
    const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_and_ps(a.lo, m), _mm256_and_ps(a.hi, m)};
}
static inline F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
static inline Mask less(F32 a, F32 b) {
    return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
static inline F32 select(Mask m, F32 yes, F32 no) {
    return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}
static inline F32 load_f16(const uint16_t* p) {
    const __m128i* q = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
static inline F32 splat_f16(const uint16_t* p) { return splat(_cvtsh_ss(*p)); }
static inline void store_f16(uint16_t* p, F32 x) {
    __m128i* q = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(q, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(q + 1, _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline F32 to_float(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
static inline I32 round_to_int(F32 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
static inline I32 float_bits(F32 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
static inline F32 bits_to_float(I32 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }

static inline __m256 low_pairs(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
static inline __m256 high_pairs(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
// Lane i of row j becomes lane j of row i, of eight rows of eight.
static inline void transpose_eight(__m256* rows) {
    __m256 t[8];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        const __m256 a = _mm256_unpacklo_ps(rows[i], rows[i + 1]), b = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        const __m256 c = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
        t[i] = low_pairs(a, c), t[i + 1] = high_pairs(a, c), t[i + 2] = low_pairs(b, d), t[i + 3] = high_pairs(b, d);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        rows[c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x20);
        rows[4 + c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x31);
    }
}
// Likewise of sixteen rows: the four quarters, of which two change places.
static inline void transpose(F32* rows) {
    __m256 quarters[4][8];
    for (int i = 0; i < 8; ++i) {
        quarters[0][i] = rows[i].lo, quarters[1][i] = rows[i].hi;
        quarters[2][i] = rows[8 + i].lo, quarters[3][i] = rows[8 + i].hi;
    }
    for (int q = 0; q < 4; ++q) transpose_eight(quarters[q]);
    for (int i = 0; i < 8; ++i) {
        rows[i] = {quarters[0][i], quarters[2][i]};
        rows[8 + i] = {quarters[1][i], quarters[3][i]};
    }
}

static inline float reduce_add(F32 a) {
    const __m256 x = _mm256_add_ps(a.lo, a.hi);
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float reduce_max(F32 a) {
    const __m256 x = _mm256_max_ps(a.lo, a.hi);
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

// Integers.
static inline __m256i load_half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
static inline void store_half(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
static inline I32 splat(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline I32 load(const int32_t* p) { return {load_half(p), load_half(p + 8)}; }
static inline void store(int32_t* p, I32 x) {
    store_half(p, x.lo);
    store_half(p + 8, x.hi);
}
static inline I32 load_bytes(const uint8_t* p) { return {load_half(p), load_half(p + 32)}; }
static inline void store_bytes(uint8_t* p, I32 x) {
    store_half(p, x.lo);
    store_half(p + 32, x.hi);
}
// The lowest byte of each lane: 16 bytes.
static inline void store_low_bytes(int8_t* p, I32 x) {
    const __m256i low_bytes = _mm256_set1_epi32(255), order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    const __m256i halves = _mm256_packus_epi32(_mm256_and_si256(x.lo, low_bytes), _mm256_and_si256(x.hi, low_bytes));
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(halves, halves), order);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bytes));
}
static inline int32_t reduce_add(I32 a) {
    const __m256i eight = _mm256_add_epi32(a.lo, a.hi);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
static inline __m128i load_quarter(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
static inline I32 widen_u8(const uint8_t* p) {
    const __m128i x = load_quarter(p);
    return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x))};
}
static inline I32 widen_s8(const uint8_t* p) {
    const __m128i x = load_quarter(p);
    return {_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x))};
}
static inline I32 widen_u16(const uint8_t* p) {
    return {_mm256_cvtepu16_epi32(load_quarter(p)), _mm256_cvtepu16_epi32(load_quarter(p + 16))};
}
static inline I32 add(I32 a, I32 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
static inline I32 sub(I32 a, I32 b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
static inline I32 mul(I32 a, I32 b) {
    return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
static inline I32 bit_and(I32 a, I32 b) {
    return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
static inline I32 bit_or(I32 a, I32 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
static inline void mul_wide_half(__m256i a, __m256i b, __m256i& high, __m256i& low) {
    const __m256i even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
    low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
// The two halves of each unsigned 64-bit product a * b.
static inline void mul_wide(I32 a, uint32_t b, I32& high, I32& low) {
    const __m256i factor = _mm256_set1_epi64x(b);
    mul_wide_half(a.lo, factor, high.lo, low.lo);
    mul_wide_half(a.hi, factor, high.hi, low.hi);
}
static inline I32 bit_xor(I32 a, I32 b) {
    return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
static inline I32 abs(I32 a) { return {_mm256_abs_epi32(a.lo), _mm256_abs_epi32(a.hi)}; }
template <int N>
static inline I32 shift_left(I32 a) {
    return {_mm256_slli_epi32(a.lo, N), _mm256_slli_epi32(a.hi, N)};
}
template <int N>
static inline I32 shift_right(I32 a) {
    return {_mm256_srli_epi32(a.lo, N), _mm256_srli_epi32(a.hi, N)};
}
template <int N>
static inline I32 shift_right_signed(I32 a) {
    return {_mm256_srai_epi32(a.lo, N), _mm256_srai_epi32(a.hi, N)};
}
// Per byte.
static inline I32 add_bytes(I32 a, I32 b) {
    return {_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)};
}
static inline I32 sub_bytes(I32 a, I32 b) {
    return {_mm256_sub_epi8(a.lo, b.lo), _mm256_sub_epi8(a.hi, b.hi)};
}
// All ones in the unsigned bytes of a that are not below b's.
static inline I32 bytes_at_least(I32 a, I32 b) {
    return {_mm256_cmpeq_epi8(_mm256_max_epu8(a.lo, b.lo), a.lo), _mm256_cmpeq_epi8(_mm256_max_epu8(a.hi, b.hi), a.hi)};
}
static inline I32 abs_bytes(I32 a) { return {_mm256_abs_epi8(a.lo), _mm256_abs_epi8(a.hi)}; }
static inline __m256i negate_half_where(__m256i a, __m256i plane, __m256i bit) {
    const __m256i where = _mm256_cmpeq_epi8(_mm256_and_si256(plane, bit), bit);
    return _mm256_sub_epi8(_mm256_xor_si256(a, where), where);
}
// -a in the bytes where bit S of plane is set.
template <int S>
static inline I32 negate_bytes_where(I32 a, I32 plane) {
    const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << S));
    return {negate_half_where(a.lo, plane.lo, bit), negate_half_where(a.hi, plane.hi, bit)};
}
// yes in the bytes where bit S of plane is set, no in the others. The shift brings bit S to the top of its byte.
template <int S>
static inline I32 select_bytes_where(I32 plane, I32 yes, I32 no) {
    return {_mm256_blendv_epi8(no.lo, yes.lo, _mm256_slli_epi16(plane.lo, 7 - S)),
            _mm256_blendv_epi8(no.hi, yes.hi, _mm256_slli_epi16(plane.hi, 7 - S))};
}
// Per 16-bit half: a shifted left by the count in b (0..3), as a product with 1, 2, 4 or 8.
static inline I32 shift_left_halves(I32 a, I32 b) {
    const __m256i power = _mm256_setr_epi8(1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                                                                  1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i low = _mm256_set1_epi16(0x00ff);
    return {_mm256_mullo_epi16(a.lo, _mm256_and_si256(_mm256_shuffle_epi8(power, b.lo), low)),
                    _mm256_mullo_epi16(a.hi, _mm256_and_si256(_mm256_shuffle_epi8(power, b.hi), low))};
}
// The low 16 bits of the product of each pair of halves.
static inline I32 mul_halves(I32 a, I32 b) {
    return {_mm256_mullo_epi16(a.lo, b.lo), _mm256_mullo_epi16(a.hi, b.hi)};
}
static inline I32 sub_halves(I32 a, I32 b) {
    return {_mm256_sub_epi16(a.lo, b.lo), _mm256_sub_epi16(a.hi, b.hi)};
}
static inline I32 sign_of_halves(I32 a) { return {_mm256_srai_epi16(a.lo, 15), _mm256_srai_epi16(a.hi, 15)}; }
// The two signed halves of each lane, added.
static inline I32 sum_halves(I32 a) {
    const __m256i one = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(a.lo, one), _mm256_madd_epi16(a.hi, one)};
}

// A table of 16 bytes for lookup().
struct Table16 {
    __m256i v;
};
static inline Table16 load_table(const uint8_t* p) { return {_mm256_broadcastsi128_si256(load_quarter(p))}; }
// table[index & 15] for each byte; index 0..127.
static inline I32 lookup(Table16 table, I32 index) {
    return {_mm256_shuffle_epi8(table.v, index.lo), _mm256_shuffle_epi8(table.v, index.hi)};
}
static inline __m256 lookup_half(F32 table, __m256i index) {
    const __m256 low = _mm256_permutevar8x32_ps(table.lo, index), high = _mm256_permutevar8x32_ps(table.hi, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
// table[index] for each lane, of sixteen floats; index 0..15.
static inline F32 lookup(F32 table, I32 index) { return {lookup_half(table, index.lo), lookup_half(table, index.hi)}; }
// table[index] for each lane.
static inline I32 gather(const uint32_t* table, I32 index) {
    const int* t = reinterpret_cast<const int*>(table);
    return {_mm256_i32gather_epi32(t, index.lo, 4), _mm256_i32gather_epi32(t, index.hi, 4)};
}

// maddubs adds two products in int16: 2 * 128 * 127 still fits, so bytes above 127 go in two parts.
static inline __m256i dot4_half(__m256i acc, __m256i u8, __m256i s8) {
    const __m256i one = _mm256_set1_epi16(1), low7 = _mm256_set1_epi8(0x7f);
    const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(u8, low7), s8);
    const __m256i high = _mm256_maddubs_epi16(_mm256_andnot_si256(low7, u8), s8);
    return _mm256_add_epi32(acc,
                                                    _mm256_add_epi32(_mm256_madd_epi16(low, one), _mm256_madd_epi16(high, one)));
}
// acc + the dot product of each lane's four unsigned bytes with its four signed bytes (not -128); exact.
static inline I32 dot4(I32 acc, I32 u8, I32 s8) {
    return {dot4_half(acc.lo, u8.lo, s8.lo), dot4_half(acc.hi, u8.hi, s8.hi)};
}
// The four bytes at p in every lane.
static inline I32 splat_at(const int32_t* p) { return splat(*p); }
// dot4 with the same four signed bytes at p in every lane.
static inline I32 dot4_at(I32 acc, I32 u8, const int32_t* p) { return dot4(acc, u8, splat(*p)); }
// Bytes of at most 63: four products, 4 * 63 * 127, still fit an int16.
static inline __m256i dot4_pair_half(__m256i acc, __m256i u0, __m256i s0, __m256i u1, __m256i s1) {
    const __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(u0, s0), _mm256_maddubs_epi16(u1, s1));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}
// dot4 where every unsigned byte is at most 63, for two pairs at once; acc0 + acc1 is what counts.
static inline void dot4_pair_u6_at(I32& acc0, I32& acc1, I32 u0, I32 u1, const int32_t* p) {
    const __m256i s0 = _mm256_set1_epi32(p[0]), s1 = _mm256_set1_epi32(p[1]);
    acc0.lo = dot4_pair_half(acc0.lo, u0.lo, s0, u1.lo, s1);
    acc1.hi = dot4_pair_half(acc1.hi, u0.hi, s0, u1.hi, s1);
}
static inline __m256i sum_bytes_half(__m256i a) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
// acc + the sum of each lane's four bytes, each at most 63.
static inline I32 add_byte_sums_u6(I32 acc, I32 a) {
    return {_mm256_add_epi32(acc.lo, sum_bytes_half(a.lo)), _mm256_add_epi32(acc.hi, sum_bytes_half(a.hi))};
}

}  // namespace espalier::ESPALIER_TIER
