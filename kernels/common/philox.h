// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), as kernels/reference/philox.py has
// them. A number depends on where it is used: the key is the seed, the counter the token's group and the position.
#pragma once

#include "common/logarithm.h"

namespace espalier {

ESP_NUMBER int kPhiloxRounds = 10;
ESP_NUMBER uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;  // the round's multipliers
ESP_NUMBER uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // the key's step from round to round

// The words of counter (group, position, 0, 0), for tokens 4 group .. 4 group + 3.
ESP_FN void philox(uint32_t group, uint32_t position, uint64_t seed, uint32_t (&words)[4]) {
    uint32_t c0 = group, c1 = position, c2 = 0, c3 = 0, k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int i = 0; i < kPhiloxRounds; ++i) {
        const uint64_t p0 = uint64_t(c0) * kPhiloxM0, p1 = uint64_t(c2) * kPhiloxM1;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0, c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1, c3 = uint32_t(p0);
        k0 += kPhiloxW0, k1 += kPhiloxW1;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Gumbel(0, 1) noise: the argmax of logits and noise is a draw from their softmax.
ESP_FN double gumbel(uint32_t word) {
    const double number = (double(word) + 0.5) * 0x1p-32;
    return -logarithm(-logarithm(number));
}

}  // namespace espalier
