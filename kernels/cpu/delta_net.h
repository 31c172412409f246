// Recurrent layers over the vectors of simd.h: a causal convolution, and the gated delta net with a state of each head.
//
// Vectors are channels of the convolution and columns of the states, so no sum crosses lanes but those of the norms. A
// head's columns are independent of one another: they go in strips, each in one piece of memory, which stay in the
// first-level cache over all the tokens of a pass. (To fetch the next strip meanwhile made it slower: docs/logbook.md.)
#pragma once

#include "common/logarithm.h"
#include "cpu/vector_kernels.h"
#include "cpu/vector_math.h"

namespace espalier::ESPALIER_TIER {

constexpr int kStripVectors = 4;     // 64 columns: 32 KiB of a state with 128 rows
constexpr float kLargeGate = 20.0f;  // softplus(x) is x beyond it: what it lacks is below half a unit of a float

static inline F32 sigmoid_product(F32 x, F32 gate) {
    return div(x, add(splat(1.0f), exponential(sub(splat(0.0f), gate))));
}

static void sigmoid_mul(const float* x, const float* gate, int64_t n, float* y) {
    for (int64_t i = 0; i < n; i += kLanes) {
        const int lanes = int(n - i < kLanes ? n - i : kLanes);
        store_first(y + i, sigmoid_product(load_first(x + i, lanes), load_first(gate + i, lanes)), lanes);
    }
}

static void add_gated(const float* residual, const float* x, float gate, int64_t n, float* y) {
    const F32 divisor = add(splat(1.0f), exponential(splat(-gate)));
    for (int64_t i = 0; i < n; i += kLanes) {
        const int lanes = int(n - i < kLanes ? n - i : kLanes);
        store_first(y + i, add(load_first(residual + i, lanes), div(load_first(x + i, lanes), divisor)), lanes);
    }
}

// Row `row` of a sequence's inputs, counted from its first token of this pass: rows before it are kept ones.
static inline F32 conv_input(const ConvPass& p, const ConvItem& item, int64_t row, int64_t channel, int lanes) {
    if (row >= 0) return load_first(p.x + (item.first_token + row) * p.n_channels + channel, lanes);
    if (item.is_fresh) return splat(0.0f);
    return load_first(item.kept + (row + p.n_taps - 1) * p.n_channels + channel, lanes);
}

static void causal_conv(const ConvPass& p, const ConvItem& item) {
    const int64_t n_kept = p.n_taps - 1;
    for (int64_t channel = item.first_channel; channel < item.last_channel; channel += kLanes) {
        const int64_t left = item.last_channel - channel;
        const int lanes = int(left < kLanes ? left : kLanes);
        for (int64_t t = 0; t < item.n_tokens; ++t) {
            F32 sum = splat(0.0f);
            for (int64_t tap = 0; tap < p.n_taps; ++tap)
                sum = fma(load_first(p.weight + tap * p.n_channels + channel, lanes),
                          conv_input(p, item, t - n_kept + tap, channel, lanes), sum);
            const F32 silu = div(sum, add(splat(1.0f), exponential(sub(splat(0.0f), sum))));
            store_first(p.y + (item.first_token + t) * p.n_channels + channel, silu, lanes);
        }
        if (item.kept == nullptr) continue;
        for (int64_t i = 0; i < n_kept; ++i)  // upwards: a row that moves comes from a later one
            store_first(item.kept + i * p.n_channels + channel,
                        conv_input(p, item, item.n_tokens - n_kept + i, channel, lanes), lanes);
    }
}

static inline float softplus(float x, float exp_x) {
    return x <= kLargeGate ? static_cast<float>(logarithm(1.0 + static_cast<double>(exp_x))) : x;
}

static void delta_inputs(const DeltaInputs& p, int64_t token) {
    const float* x = p.qkv + token * p.n_channels;
    float* y = p.normed + token * 2 * p.n_keys;
    for (int64_t head = 0; head < 2 * p.n_keys; head += p.key_dim) {
        const F32 root = sqrt(splat(sum_of_squares(x + head, p.key_dim) + p.eps));
        const F32 scale = splat(head < p.n_keys ? p.query_scale : 1.0f);
        for (int64_t i = head; i < head + p.key_dim; i += kLanes) {
            const int64_t left = head + p.key_dim - i;
            const int lanes = int(left < kLanes ? left : kLanes);
            store_first(y + i, mul(div(load_first(x + i, lanes), root), scale), lanes);
        }
    }
    const float *alpha = p.alpha + token * p.n_head, *beta = p.beta + token * p.n_head;
    for (int64_t head = 0; head < p.n_head; head += kLanes) {
        const int lanes = int(p.n_head - head < kLanes ? p.n_head - head : kLanes);
        float sums[kLanes], powers[kLanes], gains[kLanes];
        const F32 sum = add(load_first(alpha + head, lanes), load_first(p.dt + head, lanes));
        store(sums, sum), store(powers, exponential(sum));
        store(gains, sigmoid_product(splat(1.0f), load_first(beta + head, lanes)));
        for (int i = 0; i < lanes; ++i) sums[i] = softplus(sums[i], powers[i]);
        store(powers, exponential(mul(load(sums), load_first(p.a + head, lanes))));
        float* pair = p.decays + 2 * (token * p.n_head + head);
        for (int i = 0; i < lanes; ++i) pair[2 * i] = powers[i], pair[2 * i + 1] = gains[i];
    }
}

// kVectors * 16 columns of one head's state from `column` on, over the item's tokens.
template <int kVectors>
static void delta_strip(const DeltaPass& p, const DeltaItem& item, int64_t column) {
    constexpr int64_t kStride = 16 * kVectors;
    float* state = item.state + column * p.key_dim;
    const int64_t k_head = item.head % (p.n_keys / p.key_dim);
    if (item.is_fresh)
        for (int64_t i = 0; i < p.key_dim; ++i)
            for (int v = 0; v < kVectors; ++v) store(state + i * kStride + 16 * v, splat(0.0f));
    for (int64_t t = item.first_token; t < item.first_token + item.n_tokens; ++t) {
        const float *q = p.normed + t * 2 * p.n_keys + k_head * p.key_dim, *k = q + p.n_keys;
        const float* pair = p.decays + 2 * (t * p.n_head + item.head);
        const float* values = p.qkv + t * p.n_channels + 2 * p.n_keys + item.head * p.value_dim;
        float* y = p.y + (t * p.n_head + item.head) * p.value_dim;
        const F32 decay = splat(pair[0]);
        F32 r[kVectors], out[kVectors];
        for (int v = 0; v < kVectors; ++v) r[v] = out[v] = splat(0.0f);
        for (int64_t i = 0; i < p.key_dim; ++i) {
            const F32 key = splat(k[i]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                r[v] = fma(mul(load(state + i * kStride + 16 * v), decay), key, r[v]);
        }
        for (int v = 0; v < kVectors; ++v) {
            const int64_t left = p.value_dim - column - 16 * v;
            const F32 value = load_first(values + column + 16 * v, int(left < kLanes ? left : kLanes));
            r[v] = mul(splat(pair[1]), sub(value, r[v]));
        }
        for (int64_t i = 0; i < p.key_dim; ++i) {
            const F32 key = splat(k[i]), query = splat(q[i]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                float* at = state + i * kStride + 16 * v;
                const F32 s = fma(key, r[v], mul(load(at), decay));
                store(at, s);
                out[v] = fma(s, query, out[v]);
            }
        }
        for (int v = 0; v < kVectors; ++v) {
            const int64_t left = p.value_dim - column - 16 * v;
            store_first(y + column + 16 * v, out[v], int(left < kLanes ? left : kLanes));
        }
    }
}

static void delta_net(const DeltaPass& p, const DeltaItem& item) {
    int64_t column = 0;
    for (; column + 16 * kStripVectors <= p.value_dim_padded; column += 16 * kStripVectors)
        delta_strip<kStripVectors>(p, item, column);
    for (; column < p.value_dim_padded; column += 16) delta_strip<1>(p, item, column);
}

}  // namespace espalier::ESPALIER_TIER
