// What choosing a token goes by (kernels/choice_row.py has the same records for NumPy, and says what each field means).
#pragma once

#include "common/portability.h"

namespace espalier {

constexpr int kMaxLogprobs = 20;
// Of a row's log-probabilities: the chosen token's, the most likely ids as bits, theirs.
constexpr int kLogprobColumns = 1 + 2 * kMaxLogprobs;

// The numbers of the steps in ChoiceRow::order.
enum ChoiceStep { kTemperatureStep, kTopKStep, kTopPStep, kMinPStep };
constexpr int kChoiceSteps = 4;

struct ChoiceRow {
    double temperature;  // 0: the highest logit is chosen
    double floor;        // of (logit - highest) / temperature: min_p's, or -infinity
    double top_p;
    uint64_t seed;
    double frequency_penalty, presence_penalty;
    float repetition_penalty;
    float rate;  // of mass_of
    uint32_t position;
    uint32_t top_k;
    uint32_t order;  // two bits a step, the first one lowest
    uint32_t n_unread;
    uint32_t has_mask;
    uint32_t wants_logprob;
    uint32_t n_top_logprobs;
    uint32_t unused;
};
static_assert(sizeof(ChoiceRow) == 88, "rows of int32 [22]");

struct Change {
    int32_t token_id;
    int32_t n_answered;
    int32_t is_seen;
    float bias;
};
static_assert(sizeof(Change) == 16, "rows of int32 [4]");

}  // namespace espalier
