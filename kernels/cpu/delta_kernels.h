// What the recurrent kernels of a tier work on (delta_net.h): a pass as a whole, and the item that a thread takes of it.
#pragma once

#include <cstdint>

namespace espalier {

// x, y [n_tokens, n_channels]; weight [n_taps, n_channels], the oldest token's tap first
struct ConvPass {
    const float *x, *weight;
    float* y;
    int64_t n_channels, n_taps;
};

// Channels [first_channel, last_channel) of one sequence.
struct ConvItem {
    int64_t first_token, n_tokens, first_channel, last_channel;
    float* kept;  // [n_taps - 1, n_channels]; null: nothing is kept
    bool is_fresh;
};

struct DeltaInputs {
    const float* qkv;  // [n_tokens, n_channels], the queries and keys first
    const float *alpha, *beta;  // [n_tokens, n_head]
    const float *dt, *a;        // [n_head]
    float* normed;              // [n_tokens, 2, n_keys]
    float* decays;              // [n_tokens, n_head, 2]: decay, gain
    int64_t n_channels, n_keys, key_dim, n_head;  // n_keys: of all heads together
    float eps, query_scale;
};

struct DeltaPass {
    const float *qkv, *normed, *decays;
    float* y;  // [n_tokens, n_head, value_dim]
    int64_t n_channels, n_keys, key_dim, n_head, value_dim, value_dim_padded;
};

// One head of one sequence.
struct DeltaItem {
    int64_t first_token, n_tokens, head;
    float* state;  // strips of columns [key_dim, 64], then [key_dim, 16] (delta_net.h)
    bool is_fresh;
};

}  // namespace espalier
