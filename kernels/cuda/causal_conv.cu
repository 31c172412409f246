// y = silu of a causal convolution of each channel with its own taps: one fused multiply-add a tap, the oldest token's first.
//   x, y         float32 [n_tokens, n_channels]
//   weight       float32 [n_taps, n_channels], that of the oldest token first
//   kept         float32 [n_slots, n_taps - 1, n_channels]: the last inputs of each sequence, read and written
//   query_start int32 [n_seqs + 1], context_lens and slots int32 [n_seqs]: state_pass.cuh
//   grid (ceil(n_channels / 256), n_seqs, ceil(n_tokens / chunk))   block 256
// A thread has a channel and `chunk` tokens of one sequence. Only the first of them may lie within n_taps - 1 tokens of the
// sequence's beginning (chunk >= n_taps - 1), so one thread alone reads the kept inputs of a channel, and writes them after.
// Bound by launch and latency at one token, by memory at many: x is read from memory once and n_taps - 1 times from the
// first-level cache.
#include "cuda/float_math.cuh"
#include "cuda/state_pass.cuh"

namespace espalier {

constexpr int kThreads = 256;

// One channel of one sequence. Row i is its token i of this pass; the rows before them are kept ones.
struct Channel {
    const float* x;
    float* kept;
    int64_t n_channels;
    int n_kept;
    bool is_fresh;

    ESP_FN float row(int i) const {
        if (i >= 0) return x[i * n_channels];
        return is_fresh ? 0.0f : kept[(i + n_kept) * n_channels];
    }
};

extern "C" __global__ void __launch_bounds__(kThreads)
    causal_conv(const float* x, const float* weight, const int* query_start, const int* context_lens, const int* slots, int n_channels,
                int n_taps, int chunk, float* kept, float* y) {
    const Sequence sequence = sequence_at(query_start, context_lens, slots, blockIdx.y);
    const int at = blockIdx.x * kThreads + threadIdx.x, first = blockIdx.z * chunk, n_kept = n_taps - 1;
    if (at >= n_channels) return;
    const int64_t first_value = int64_t(sequence.first_token) * n_channels + at;
    const int64_t slot = max(sequence.slot, 0);
    const Channel channel{x + first_value, kept + slot * n_kept * n_channels + at, n_channels, n_kept, sequence.is_fresh};
    const int end = min(first + chunk, sequence.n_tokens);
    for (int token = first; token < end; ++token) {
        float sum = 0.0f;
        for (int tap = 0; tap < n_taps; ++tap)
            sum = fma_f32(weight[int64_t(tap) * n_channels + at], channel.row(token - n_kept + tap), sum);
        y[first_value + int64_t(token) * n_channels] = sigmoid_product(sum, sum);
    }
    if (first > 0 || sequence.slot < 0) return;
    for (int i = 0; i < n_kept; ++i)  // upwards: a kept row that moves comes from a later one
        channel.kept[i * channel.n_channels] = channel.row(sequence.n_tokens - n_kept + i);
}

}  // namespace espalier
