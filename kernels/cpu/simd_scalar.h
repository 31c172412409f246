// The 64-byte vectors of simd.h as plain arrays: what the other two must equal, and what runs on any CPU.
#pragma once

#include <math.h>
#include <string.h>

#include <cstdint>

namespace espalier::ESPALIER_TIER {

struct F32 {
    float v[16];
};
struct I32 {
    int32_t v[16];
};
struct Mask {
    bool v[16];
};
struct Bytes {
    uint8_t v[64];
};
struct Halves {
    int16_t v[32];
};

template <class F>
static inline F32 each_f(F f) {
    F32 r;
    for (int i = 0; i < 16; i++) r.v[i] = f(i);
    return r;
}
template <class F>
static inline I32 each_i(F f) {
    I32 r;
    for (int i = 0; i < 16; i++) r.v[i] = f(i);
    return r;
}
template <class To, class From>
static inline To reread(const From &x) {
    static_assert(sizeof(To) == sizeof(From), "the same bits, read as another type");
    To r;
    memcpy(&r, &x, sizeof r);
    return r;
}
static inline uint32_t u32(int32_t x) { return static_cast<uint32_t>(x); }
static inline int32_t s32(uint32_t x) { return static_cast<int32_t>(x); }

// Floats.
static inline F32 splat(float x) {
    return each_f([=](int) { return x; });
}
static inline F32 load(const float* p) {
    return each_f([=](int i) { return p[i]; });
}
static inline void store(float* p, F32 x) { memcpy(p, x.v, sizeof x.v); }
static inline F32 load_first(const float* p, int n) {
    return each_f([=](int i) { return i < n ? p[i] : 0.0f; });
}
static inline void store_first(float* p, F32 x, int n) {
    for (int i = 0; i < n; i++) p[i] = x.v[i];
}
static inline F32 add(F32 a, F32 b) {
    return each_f([&](int i) { return a.v[i] + b.v[i]; });
}
static inline F32 sub(F32 a, F32 b) {
    return each_f([&](int i) { return a.v[i] - b.v[i]; });
}
static inline F32 mul(F32 a, F32 b) {
    return each_f([&](int i) { return a.v[i] * b.v[i]; });
}
static inline F32 div(F32 a, F32 b) {
    return each_f([&](int i) { return a.v[i] / b.v[i]; });
}
static inline F32 fma(F32 a, F32 b, F32 c) {
    return each_f([&](int i) { return fmaf(a.v[i], b.v[i], c.v[i]); });
}
static inline F32 max(F32 a, F32 b) {
    return each_f([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
static inline F32 abs(F32 a) {
    return each_f([&](int i) { return fabsf(a.v[i]); });
}
static inline F32 sqrt(F32 a) {
    return each_f([&](int i) { return sqrtf(a.v[i]); });
}
static inline Mask less(F32 a, F32 b) {
    Mask m;
    for (int i = 0; i < 16; i++) m.v[i] = a.v[i] < b.v[i];
    return m;
}
static inline F32 select(Mask m, F32 yes, F32 no) {
    return each_f([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
}
static inline float f16_to_float(uint16_t h) {
    const uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * (static_cast<float>(mantissa) * 0x1p-24f);
    if (exponent < 31) return reread<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    const uint32_t quiet = mantissa ? 0x400000u : 0u;
    return reread<float>(sign | 0x7f800000u | quiet | (mantissa << 13));
}
// Round to nearest even, as vcvtps2ph does; a NaN keeps the top of its payload and becomes quiet.
static inline uint16_t float_to_f16(float x) {
    const uint32_t bits = reread<uint32_t>(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves multiples of 2^-24 in the low bits
        const float sum = reread<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (reread<uint32_t>(sum) - 0x3f000000u));
    }
    const uint32_t odd = (magnitude >> 13) & 1u;
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}
static inline F32 load_f16(const uint16_t* p) {
    return each_f([=](int i) { return f16_to_float(p[i]); });
}
static inline F32 splat_f16(const uint16_t* p) { return splat(f16_to_float(*p)); }
static inline void store_f16(uint16_t* p, F32 x) {
    for (int i = 0; i < 16; i++) p[i] = float_to_f16(x.v[i]);
}
static inline F32 to_float(I32 a) {
    return each_f([&](int i) { return static_cast<float>(a.v[i]); });
}
// Out of range and NaN give the "integer indefinite" of x86.
static inline I32 round_to_int(F32 a) {
    return each_i([&](int i) {
        const float r = rintf(a.v[i]);
        return r >= -0x1p31f && r < 0x1p31f ? static_cast<int32_t>(r) : s32(0x80000000u);
    });
}
static inline I32 float_bits(F32 a) { return reread<I32>(a); }
static inline F32 bits_to_float(I32 a) { return reread<F32>(a); }

static inline float reduce_add(F32 a) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] + a.v[i + half];
    return a.v[0];
}
static inline float reduce_max(F32 a) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
    return a.v[0];
}

// Lane i of row j becomes lane j of row i.
static inline void transpose(F32* rows) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++) {
            const float below = rows[i].v[j];
            rows[i].v[j] = rows[j].v[i];
            rows[j].v[i] = below;
        }
}

// Integers.
static inline I32 splat(int32_t x) {
    return each_i([=](int) { return x; });
}
static inline I32 load(const int32_t* p) {
    return each_i([=](int i) { return p[i]; });
}
static inline void store(int32_t* p, I32 x) { memcpy(p, x.v, sizeof x.v); }
static inline I32 load_bytes(const uint8_t* p) {
    I32 r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}
static inline void store_bytes(uint8_t* p, I32 x) { memcpy(p, x.v, sizeof x.v); }
// The lowest byte of each lane: 16 bytes.
static inline void store_low_bytes(int8_t* p, I32 x) {
    for (int i = 0; i < 16; i++) p[i] = static_cast<int8_t>(x.v[i]);
}
static inline int32_t reduce_add(I32 a) {
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += a.v[i];
    return sum;
}
static inline I32 widen_u8(const uint8_t* p) {
    return each_i([=](int i) { return static_cast<int32_t>(p[i]); });
}
static inline I32 widen_s8(const uint8_t* p) {
    return each_i([=](int i) { return static_cast<int32_t>(static_cast<int8_t>(p[i])); });
}
static inline I32 widen_u16(const uint8_t* p) {
    return each_i([=](int i) { return p[2 * i] | p[2 * i + 1] << 8; });
}
static inline I32 add(I32 a, I32 b) {
    return each_i([&](int i) { return s32(u32(a.v[i]) + u32(b.v[i])); });
}
static inline I32 sub(I32 a, I32 b) {
    return each_i([&](int i) { return s32(u32(a.v[i]) - u32(b.v[i])); });
}
static inline I32 mul(I32 a, I32 b) {
    return each_i([&](int i) { return s32(u32(a.v[i]) * u32(b.v[i])); });
}
static inline I32 bit_and(I32 a, I32 b) {
    return each_i([&](int i) { return a.v[i] & b.v[i]; });
}
static inline I32 bit_or(I32 a, I32 b) {
    return each_i([&](int i) { return a.v[i] | b.v[i]; });
}
// The two halves of each unsigned 64-bit product a * b.
static inline void mul_wide(I32 a, uint32_t b, I32& high, I32& low) {
    for (int i = 0; i < 16; i++) {
        const uint64_t product = static_cast<uint64_t>(static_cast<uint32_t>(a.v[i])) * b;
        high.v[i] = static_cast<int32_t>(product >> 32);
        low.v[i] = static_cast<int32_t>(product & 0xFFFFFFFFu);
    }
}
static inline I32 bit_xor(I32 a, I32 b) {
    return each_i([&](int i) { return a.v[i] ^ b.v[i]; });
}
static inline I32 abs(I32 a) {
    return each_i([&](int i) { return a.v[i] < 0 ? s32(0u - u32(a.v[i])) : a.v[i]; });
}
template <int N>
static inline I32 shift_left(I32 a) {
    return each_i([&](int i) { return s32(u32(a.v[i]) << N); });
}
template <int N>
static inline I32 shift_right(I32 a) {
    return each_i([&](int i) { return s32(u32(a.v[i]) >> N); });
}
template <int N>
static inline I32 shift_right_signed(I32 a) {
    return each_i([&](int i) { return a.v[i] >> N; });
}
// Per byte.
static inline I32 add_bytes(I32 a, I32 b) {
    Bytes x = reread<Bytes>(a), y = reread<Bytes>(b);
    for (int i = 0; i < 64; i++) x.v[i] = static_cast<uint8_t>(x.v[i] + y.v[i]);
    return reread<I32>(x);
}
static inline I32 sub_bytes(I32 a, I32 b) {
    Bytes x = reread<Bytes>(a), y = reread<Bytes>(b);
    for (int i = 0; i < 64; i++) x.v[i] = static_cast<uint8_t>(x.v[i] - y.v[i]);
    return reread<I32>(x);
}
// All ones in the unsigned bytes of a that are not below b's.
static inline I32 bytes_at_least(I32 a, I32 b) {
    Bytes x = reread<Bytes>(a), y = reread<Bytes>(b);
    for (int i = 0; i < 64; i++) x.v[i] = x.v[i] >= y.v[i] ? 255 : 0;
    return reread<I32>(x);
}
static inline I32 abs_bytes(I32 a) {
    Bytes x = reread<Bytes>(a);
    for (int i = 0; i < 64; i++) x.v[i] = static_cast<uint8_t>(x.v[i] & 128 ? -x.v[i] : x.v[i]);
    return reread<I32>(x);
}
// -a in the bytes where bit S of plane is set.
template <int S>
static inline I32 negate_bytes_where(I32 a, I32 plane) {
    Bytes x = reread<Bytes>(a);
    const Bytes p = reread<Bytes>(plane);
    for (int i = 0; i < 64; i++) x.v[i] = static_cast<uint8_t>(p.v[i] >> S & 1 ? -x.v[i] : x.v[i]);
    return reread<I32>(x);
}
// yes in the bytes where bit S of plane is set, no in the others.
template <int S>
static inline I32 select_bytes_where(I32 plane, I32 yes, I32 no) {
    const Bytes p = reread<Bytes>(plane), y = reread<Bytes>(yes);
    Bytes x = reread<Bytes>(no);
    for (int i = 0; i < 64; i++) x.v[i] = p.v[i] >> S & 1 ? y.v[i] : x.v[i];
    return reread<I32>(x);
}
// Per 16-bit half: a shifted left by the count in b (0..3).
static inline I32 shift_left_halves(I32 a, I32 b) {
    Halves x = reread<Halves>(a), y = reread<Halves>(b);
    for (int i = 0; i < 32; i++) x.v[i] = static_cast<int16_t>(static_cast<uint16_t>(x.v[i]) << y.v[i]);
    return reread<I32>(x);
}
// The low 16 bits of the product of each pair of halves.
static inline I32 mul_halves(I32 a, I32 b) {
    Halves x = reread<Halves>(a), y = reread<Halves>(b);
    for (int i = 0; i < 32; i++) x.v[i] = static_cast<int16_t>(x.v[i] * y.v[i]);
    return reread<I32>(x);
}
static inline I32 sub_halves(I32 a, I32 b) {
    Halves x = reread<Halves>(a), y = reread<Halves>(b);
    for (int i = 0; i < 32; i++) x.v[i] = static_cast<int16_t>(x.v[i] - y.v[i]);
    return reread<I32>(x);
}
static inline I32 sign_of_halves(I32 a) {
    Halves x = reread<Halves>(a);
    for (int i = 0; i < 32; i++) x.v[i] = static_cast<int16_t>(x.v[i] >> 15);
    return reread<I32>(x);
}
// The two signed halves of each lane, added.
static inline I32 sum_halves(I32 a) {
    return each_i([&](int i) { return static_cast<int16_t>(a.v[i]) + (a.v[i] >> 16); });
}

// A table of 16 bytes for lookup().
struct Table16 {
    uint8_t v[16];
};
static inline Table16 load_table(const uint8_t* p) {
    Table16 t;
    memcpy(t.v, p, sizeof t.v);
    return t;
}
// table[index & 15] for each byte; index 0..127.
static inline I32 lookup(Table16 table, I32 index) {
    Bytes x = reread<Bytes>(index);
    for (int i = 0; i < 64; i++) x.v[i] = table.v[x.v[i] & 15];
    return reread<I32>(x);
}
// table[index] for each lane, of sixteen floats; index 0..15.
static inline F32 lookup(F32 table, I32 index) {
    return each_f([&](int i) { return table.v[index.v[i]]; });
}
// table[index] for each lane.
static inline I32 gather(const uint32_t* table, I32 index) {
    return each_i([&](int i) { return s32(table[index.v[i]]); });
}

// acc + the dot product of each lane's four unsigned bytes with its four signed bytes; exact.
static inline I32 dot4(I32 acc, I32 u8, I32 s8) {
    const Bytes u = reread<Bytes>(u8), s = reread<Bytes>(s8);
    return each_i([&](int i) {
        int32_t sum = acc.v[i];
        for (int c = 4 * i; c < 4 * i + 4; c++) sum += u.v[c] * static_cast<int8_t>(s.v[c]);
        return sum;
    });
}
// The four bytes at p in every lane.
static inline I32 splat_at(const int32_t* p) { return splat(*p); }
// dot4 with the same four signed bytes at p in every lane.
static inline I32 dot4_at(I32 acc, I32 u8, const int32_t* p) { return dot4(acc, u8, splat(*p)); }
// dot4 where every unsigned byte is at most 63, for two pairs at once; acc0 + acc1 is what counts.
static inline void dot4_pair_u6_at(I32& acc0, I32& acc1, I32 u0, I32 u1, const int32_t* p) {
    acc0 = dot4_at(acc0, u0, p);
    acc1 = dot4_at(acc1, u1, p + 1);
}
// acc + the sum of each lane's four bytes, each at most 63.
static inline I32 add_byte_sums_u6(I32 acc, I32 a) { return dot4(acc, a, splat(0x01010101)); }

}  // namespace espalier::ESPALIER_TIER
