// What the recurrent kernels (causal_conv.cu, delta_net.cu) know of a sequence: kernels/batches.py, StateBatch.
#pragma once

#include "cuda/intrinsics.cuh"

namespace espalier {

struct Sequence {
    int first_token, n_tokens;
    int slot;       // -1: a padding sequence
    bool is_fresh;  // begins with a state of zeros, whatever its slot holds
};

ESP_FN Sequence sequence_at(const int* query_start, const int* context_lens, const int* slots, int i) {
    const int first = query_start[i], n_tokens = query_start[i + 1] - first;
    return {first, n_tokens, slots[i], slots[i] < 0 || context_lens[i] == n_tokens};
}

}  // namespace espalier
