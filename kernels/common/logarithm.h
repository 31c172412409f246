// The natural logarithm of a positive normal double, in plain IEEE operations, so that a draw is the same wherever it is
// made (kernels/reference/plain_log.py has the same lines for NumPy; libraries differ in their last bits). Within 4 ulp.
// x = m 2^e with m between sqrt(1/2) and sqrt(2); with s = (m - 1) / (m + 1), log m is 2 (s + s^3/3 + s^5/5 + ...).
#pragma once

#include "common/portability.h"

namespace espalier {

ESP_FN double double_from_bits(uint64_t bits) {
#if defined(__CUDA_ARCH__)
    return __longlong_as_double(static_cast<long long>(bits));
#else
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

ESP_FN uint64_t bits_from_double(double value) {
#if defined(__CUDA_ARCH__)
    return static_cast<uint64_t>(__double_as_longlong(value));
#else
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

ESP_FN double logarithm(double x) {
    const uint64_t bits = bits_from_double(x);
    double m = double_from_bits((bits & 0x000FFFFFFFFFFFFFull) | 0x3FE0000000000000ull);  // in [1/2, 1)
    int e = int(bits >> 52) - 1022;
    if (m < 0.70710678118654757) {
        m = m * 2.0;
        e -= 1;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double sum = 1.0 / 21.0;
    sum = sum * z + 1.0 / 19.0;
    sum = sum * z + 1.0 / 17.0;
    sum = sum * z + 1.0 / 15.0;
    sum = sum * z + 1.0 / 13.0;
    sum = sum * z + 1.0 / 11.0;
    sum = sum * z + 1.0 / 9.0;
    sum = sum * z + 1.0 / 7.0;
    sum = sum * z + 1.0 / 5.0;
    sum = sum * z + 1.0 / 3.0;
    sum = sum * z + 1.0;
    return double(e) * 0.69314718055994529 + 2.0 * s * sum;
}

}  // namespace espalier
