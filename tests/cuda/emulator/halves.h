// Halves as bits, rounded to nearest even as cvt.rn.f16.f32 does.
#pragma once

#include <cmath>

#include "common/portability.h"

namespace espalier {

inline float f16_value(uint16_t bits) { return f16_to_f32(bits); }
template <class Real>
uint16_t f16_bits(Real x) {
    const unsigned sign = std::signbit(x) ? 0x8000u : 0u;
    const Real magnitude = std::fabs(x);
    if (!(magnitude < Real(65520))) return uint16_t(sign | (x != x ? 0x7FFFu : 0x7C00u));  // rounds to infinity; NaN
    // The spacing of halves near x. A carry out of the mantissa raises the exponent by itself.
    const int unit = magnitude < 0x1p-14f ? -24 : std::ilogb(magnitude) - 10;
    const int steps = int(std::nearbyint(std::ldexp(magnitude, -unit)));
    return uint16_t(sign | unsigned(steps + (unit + 24) * 1024));
}
template <class Real>
unsigned pack_f16(Real low, Real high) { return f16_bits(low) | unsigned(f16_bits(high)) << 16; }

// Operations on pairs. A float sum or product of two halves, rounded to a half, is the exact one rounded once: 24 bits are
// twice 11 and two more. That of fms takes a double, which holds the product and, of halves not too far apart, the sum.
template <class Operation, class... Pairs>
unsigned of_pairs(Operation operation, Pairs... pairs) {
    return pack_f16(operation(f16_value(uint16_t(pairs))...), operation(f16_value(uint16_t(pairs >> 16))...));
}
inline unsigned add_f16x2(unsigned a, unsigned b) {
    return of_pairs([](float x, float y) { return x + y; }, a, b);
}
inline unsigned mul_f16x2(unsigned a, unsigned b) {
    return of_pairs([](float x, float y) { return x * y; }, a, b);
}
inline unsigned fms_f16x2(unsigned a, unsigned b, unsigned c) {
    return of_pairs([](double x, double y, double z) { return x * y - z; }, a, b, c);
}

}  // namespace espalier
