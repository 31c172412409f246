// The arithmetic of a choice that every backend shares: changes of logits, the order of logits and of sums with noise.
#pragma once

#include "common/choice_row.h"
#include "common/mass.h"
#include "common/philox.h"

namespace espalier {

// A logit after its change: kernels/reference/changes.py.
ESP_FN float changed(float x, const Change& change, const ChoiceRow& row) {
    if (change.is_seen) x = x > 0.0f ? x / row.repetition_penalty : x * row.repetition_penalty;
    if (change.n_answered) x = x - float(double(change.n_answered) * row.frequency_penalty + row.presence_penalty);
    return x + change.bias;
}

// Orders floats as numpy.argmax does: NaN before everything, +0 like -0.
ESP_FN uint32_t ordered_bits(float value) {
    const uint32_t bits = value == 0.0f ? 0u : bits_from_float(value);
    return value != value ? ~0u : (bits >> 31 ? ~bits : bits | 1u << 31);
}

// Orders (value, id) pairs, of equals the lower id first.
ESP_FN uint64_t key_of(float value, int id) { return uint64_t(ordered_bits(value)) << 32 | uint32_t(~id); }

// The number that ordered_bits makes this of: of the zeros one of either sign.
ESP_FN float float_from_order(uint32_t order) { return float_from_bits(order >> 31 ? order & 0x7FFFFFFFu : ~order); }

// Orders the sums of score and noise, which are not NaN.
ESP_FN uint64_t ordered_bits(double value) {
    const uint64_t bits = value == 0.0 ? 0u : bits_from_double(value);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

// Whether a row's token is drawn: else it is the one with the highest logit.
ESP_FN bool is_drawn(const ChoiceRow& row, float highest) { return row.temperature > 0.0 && highest - highest == 0.0f; }

// What a token is drawn by, before the noise. float64: kernels/reference/choice.py.
ESP_FN double score_of(float value, float highest, double temperature) {
    return (double(value) - double(highest)) / temperature;
}

// The least key of the values whose score is at least `floor`, which the highest's, zero, is. Scores rise with values, so
// that halving the floats finds it.
ESP_FN uint64_t least_key_above(double floor, float highest, double temperature) {
    uint32_t low = ordered_bits(float_from_bits(0xFF800000u)), high = ordered_bits(highest);
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (score_of(float_from_order(middle), highest, temperature) >= floor) high = middle;
        else low = middle + 1;
    }
    return uint64_t(low) << 32;
}

// The logarithm of a softmax's sum: of masses at rate 1, that of the highest logit among them.
ESP_FN double log_of_sum(uint64_t mass) { return logarithm(double(mass) * 0x1p-40); }

// A token's log-probability: kernels/reference/logprobs.py.
ESP_FN float logprob_of(float value, float highest, double log_sum) {
    return float((double(value) - double(highest)) - log_sum);
}

ESP_FN bool is_allowed(const int32_t* mask, int id) { return uint32_t(mask[id / 32]) >> (id % 32) & 1u; }

}  // namespace espalier
