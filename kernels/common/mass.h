// How much of a softmax a token holds, as an integer: exp(below * rate) * 2^40 for a logit that is `below` the highest one.
// Integers add up to the same sum in any order, so that top_p keeps the same tokens wherever they are added
// (engine/masses.py has the same lines for NumPy). Plain float32 operations; 2^f is its series, within 2e-7.
#pragma once

#include "common/portability.h"

namespace espalier {

ESP_FN uint64_t mass_of(float below, float rate) {
    const float y = below * rate * 1.44269504f;
    if (!(y >= -40.0f)) return 0;
    const float to_integer = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction, half to even
    const float k = (y + to_integer) - to_integer, f = y - k;
    float power = 0.0001540353f;
    power = power * f + 0.0013333558f;
    power = power * f + 0.0096181291f;
    power = power * f + 0.0555041087f;
    power = power * f + 0.2402265070f;
    power = power * f + 0.6931471806f;
    power = power * f + 1.0f;
    return uint64_t(uint32_t(power * 16777216.0f)) << 16 >> int(-k);
}

}  // namespace espalier
