// How much of a softmax a token holds, as an integer: exp(below * rate) * 2^40 for a logit that is `below` the highest one.
// Integers add up to the same sum in any order, so that top_p keeps the same tokens wherever they are added
// (kernels/reference/masses.py has the same lines for NumPy). Plain float32 operations; 2^f is its series, within 2e-7.
#pragma once

#include "common/portability.h"

namespace espalier {

ESP_NUMBER float kLog2E = 1.44269504f;
ESP_NUMBER float kLeastPower = -40.0f;  // powers of two below the highest: what has less counts as nothing
// 2^f for f in [-1/2, 1/2] is the sum of ln(2)^i / i! f^i.
ESP_NUMBER float kPower1 = 0.6931471806f, kPower2 = 0.2402265070f, kPower3 = 0.0555041087f;
ESP_NUMBER float kPower4 = 0.0096181291f, kPower5 = 0.0013333558f, kPower6 = 0.0001540353f;
ESP_NUMBER int kMassBits = 40;   // of the highest logit's mass
ESP_NUMBER int kPowerBits = 24;  // of 2^f, which is in them exactly

ESP_FN uint64_t mass_of(float below, float rate) {
    const float y = below * rate * kLog2E;
    if (!(y >= kLeastPower)) return 0;
    const float to_integer = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction, half to even
    const float k = (y + to_integer) - to_integer, f = y - k;
    float power = kPower6;
    power = power * f + kPower5;
    power = power * f + kPower4;
    power = power * f + kPower3;
    power = power * f + kPower2;
    power = power * f + kPower1;
    power = power * f + 1.0f;
    return uint64_t(uint32_t(power * float(1 << kPowerBits))) << (kMassBits - kPowerBits) >> int(-k);
}

}  // namespace espalier
