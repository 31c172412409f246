// The two KT generators. A stored index plus its offset is a 32-bit state (the sum may pass 16 bits); each weight
// steps the state once and reads a value from the new state. Nothing carries over from one group to the next.
#pragma once

#include "tables.h"

namespace espalier {

// Values -126..126 as int8-sized integers.
struct IntegerTrellis {
    static constexpr float kValueStep = 1.0f;  // weight value = value() * kValueStep

    static ESP_FN uint32_t next(uint32_t x) { return x * kTrellisMultiplier; }

    static ESP_FN int value(uint32_t x) {
        const uint32_t s = x & kTrellisMask;
        return int((s & 255u) + ((s >> 8) & 255u) + ((s >> 16) & 255u) + (s >> 24)) - kTrellisCentre;
    }

    // State after k steps is x * multiplier(k) + increment(k), so eight weights can be made side by side.
    static constexpr uint32_t multiplier(int k) { return k == 0 ? 1u : kTrellisMultiplier * multiplier(k - 1); }
    static constexpr uint32_t increment(int) { return 0u; }
};

// Values are v * 8192, exact, within +-32752: they fit int16, and 32 of them times int8 activations fit int32.
struct ThreeInstTrellis {
    static constexpr float kValueStep = kThreeInstStep;

    static ESP_FN uint32_t next(uint32_t x) { return x * kThreeInstMultiplier + kThreeInstIncrement; }

    // One half of s as an f16 times 8192. keep and flip leave exponents 12..15 only, so a shift does it.
    static ESP_FN int half_times_8192(uint32_t half) {
        const int magnitude = int(1024u | (half & 1023u)) << (((half >> 10) & 31u) - 12u);
        return half & 0x8000u ? -magnitude : magnitude;
    }

    static ESP_FN int value(uint32_t x) {
        const uint32_t s = (x & kThreeInstKeep) ^ kThreeInstFlip;
        return half_times_8192(s & 0xFFFFu) + half_times_8192(s >> 16);
    }

    static constexpr uint32_t multiplier(int k) { return k == 0 ? 1u : kThreeInstMultiplier * multiplier(k - 1); }
    static constexpr uint32_t increment(int k) {
        return k == 0 ? 0u : kThreeInstMultiplier * increment(k - 1) + kThreeInstIncrement;
    }
};

// The n weights of one group.
template <class Trellis>
ESP_FN void generate(uint32_t x, int n, int16_t* values) {
    for (int i = 0; i < n; ++i) {
        x = Trellis::next(x);
        values[i] = int16_t(Trellis::value(x));
    }
}

}  // namespace espalier
