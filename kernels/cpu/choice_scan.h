// Walks over one row of logits for a choice (choice.h), sixteen tokens at a time. They pass over what cannot matter and leave
// the rest to plain C++, so nothing here has to be exact but the masses.
#pragma once

#include "common/mass.h"
#include "common/philox.h"
#include "cpu/simd.h"
#include "cpu/vector_kernels.h"

namespace espalier::ESPALIER_TIER {

static inline int lanes_at(int64_t i, int64_t n) { return n - i >= kLanes ? kLanes : n > i ? int(n - i) : 0; }

// One in the lanes where x is not below `least`: also where either is NaN.
static inline F32 not_below(F32 x, F32 least) { return select(less(x, least), splat(0.0f), splat(1.0f)); }

static float highest(const float* x, int64_t n) {
    const float infinity = __builtin_inff();
    F32 best = splat(-infinity), met = splat(0.0f);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const F32 v = load(x + i);
        best = max(v, best);
        met = max(met, not_below(v, splat(infinity)));
    }
    float most = reduce_max(best);
    bool finite = !(reduce_max(met) > 0.0f);
    for (; i < n; ++i) {
        if (!(x[i] < infinity)) finite = false;
        if (x[i] > most) most = x[i];
    }
    return finite ? most : __builtin_nanf("");
}

static int64_t next_block(const float* x, int64_t n, int64_t first, float least) {
    const F32 bound = splat(least);
    for (; first + kChoiceBlock <= n; first += kChoiceBlock) {
        F32 met = splat(0.0f);
        for (int j = 0; j < kChoiceBlock; j += kLanes) met = max(met, not_below(load(x + first + j), bound));
        if (reduce_max(met) > 0.0f) return first;
    }
    for (int64_t i = first; i < n; ++i)
        if (!(x[i] < least)) return first;
    return n;
}

// 2^f of mass_of, times `scale`.
static inline F32 powers(F32 f, F32 scale) {
    F32 power = splat(kPower6);
    power = add(mul(power, f), splat(kPower5));
    power = add(mul(power, f), splat(kPower4));
    power = add(mul(power, f), splat(kPower3));
    power = add(mul(power, f), splat(kPower2));
    power = add(mul(power, f), splat(kPower1));
    power = add(mul(power, f), splat(1.0f));
    return mul(power, scale);
}

template <bool kMasses>
static void add_each(const float* x, int64_t n, float highest, float rate, uint64_t* amounts) {
    const F32 least = splat(kLeastPower), zero = splat(0.0f);
    for (int64_t i = 0; i < n; i += kLanes) {
        const int lanes = lanes_at(i, n);
        const F32 y = mul(mul(sub(load_first(x + i, lanes), splat(highest)), splat(rate)), splat(kLog2E));
        const F32 t = max(y, splat(2.0f * kLeastPower));  // a NaN too becomes what has no mass
        const Mask massless = less(t, least);
        int32_t bins[kLanes], shifts[kLanes], scaled[kLanes];
        store(bins, round_to_int(select(massless, splat(float(kMasslessBin)), mul(t, splat(-kBinsPerPower)))));
        if (kMasses) {
            const F32 counted = select(massless, zero, t);
            const I32 k = round_to_int(counted);
            store(shifts, k);
            const F32 scale = select(massless, zero, splat(float(1 << kPowerBits)));
            store(scaled, round_to_int(powers(sub(counted, to_float(k)), scale)));  // whole numbers: nothing is rounded
        }
        for (int j = 0; j < lanes; ++j)
            amounts[bins[j]] += kMasses ? uint64_t(uint32_t(scaled[j])) << (kMassBits - kPowerBits) >> -shifts[j] : 1;
    }
}

static void add_to_bins(const float* x, int64_t n, float highest, float rate, bool masses, uint64_t* amounts) {
    if (masses) add_each<true>(x, n, highest, rate, amounts);
    else add_each<false>(x, n, highest, rate, amounts);
}

// The words of the noise of 64 tokens from 4 * group on.
static inline void words_of(uint32_t group, uint32_t position, uint64_t seed, uint32_t* words) {
    int32_t groups[kLanes];
    for (int i = 0; i < kLanes; ++i) groups[i] = int32_t(group + uint32_t(i));
    I32 c0 = load(groups), c1 = splat(int32_t(position)), c2 = splat(0), c3 = splat(0);
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int i = 0; i < kPhiloxRounds; ++i) {
        I32 high0, low0, high1, low1;
        mul_wide(c0, kPhiloxM0, high0, low0);
        mul_wide(c2, kPhiloxM1, high1, low1);
        c0 = bit_xor(bit_xor(high1, c1), splat(int32_t(k0)));
        c2 = bit_xor(bit_xor(high0, c3), splat(int32_t(k1)));
        c1 = low1, c3 = low0;
        k0 += kPhiloxW0, k1 += kPhiloxW1;
    }
    int32_t by_word[4][kLanes];
    store(by_word[0], c0), store(by_word[1], c1), store(by_word[2], c2), store(by_word[3], c3);
    for (int i = 0; i < kLanes; ++i)
        for (int j = 0; j < 4; ++j) words[4 * i + j] = uint32_t(by_word[j][i]);
}

// With u = (w + 1/2) / 2^32 the noise -log(-log u) is at most -log(1 - u), as -log u is at least 1 - u; and with v = ~w / 2,
// whole, 1 - u is at least v / 2^31. A float's bits, as a number, are at most 2^23 (log2 v + 127).
static int64_t next_draws(const NoisyRow& row, int64_t first, double least, uint32_t* words) {
    constexpr float kLn2 = 0.693147181f, kSlack = 1e-3f;  // far more than the roundings of what follows
    const F32 peak = splat(row.highest), rate = splat(row.rate);
    const F32 per_bit = splat(-kLn2 / float(1 << 23)), whole = splat(kLn2 * (127.0f + 31.0f) + kSlack - float(least));
    for (; first < row.n; first += kChoiceBlock) {
        words_of(uint32_t(first / 4), row.position, row.seed, words);
        F32 met = splat(0.0f);
        for (int j = 0; j < kChoiceBlock; j += kLanes) {
            const F32 score = mul(sub(load_first(row.x + first + j, lanes_at(first + j, row.n)), peak), rate);
            const I32 w = load(reinterpret_cast<const int32_t*>(words + j));
            const F32 v = to_float(shift_right<1>(bit_xor(w, splat(-1))));
            const F32 noise = add(mul(to_float(float_bits(v)), per_bit), whole);
            met = max(met, not_below(add(score, noise), splat(0.0f)));
        }
        if (reduce_max(met) > 0.0f) return first;
    }
    return row.n;
}

}  // namespace espalier::ESPALIER_TIER
