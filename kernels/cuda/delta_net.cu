// Gated delta net: each head's state S [key_dim, value_dim] goes token by token over a sequence (kernels/delta_ops.py), in the
// CPU's order (cpu/delta_net.h). A thread has one column of S, so no sum crosses threads: sums over key_dim go up.
//   qkv            float32 [n_tokens, 2 * n_k_head * key_dim + n_head * value_dim]: queries, keys, values
//   alpha, beta    float32 [n_tokens, n_head]   dt, a   float32 [n_head]
//   query_start int32 [n_seqs + 1], context_lens and slots int32 [n_seqs]: state_pass.cuh
//   states         float32 [n_slots, n_head, key_dim, value_dim], read and written
//   y              float32 [n_tokens, n_head, value_dim]; zeros for padding sequences
//   grid (ceil(value_dim / block), n_head, n_seqs)   block 32, 64, 96 or 128
// ESP_KEY_DIM: key_dim known when this is compiled, the column in registers from a pass's first token to its last. Without it
// the column is worked on where it lies, for any key_dim up to kGroupFloats / 2.
// A decode step reads and writes each state once. A longer pass is bound by the two chains of key_dim fused multiply-adds
// that a token's results and the next token's known values are: they run side by side.
#include "common/logarithm.h"
#include "cuda/float_math.cuh"
#include "cuda/state_pass.cuh"

namespace espalier {

constexpr int kMaxThreads = 128;
constexpr int kGroupFloats = 4096;   // queries and keys in shared memory: of 16 tokens where key_dim is 128
constexpr int kMaxGroup = 32;        // tokens: their gates are worked out by the lanes of a warp
constexpr float kLargeGate = 20.0f;  // softplus(x) is x beyond it: what it lacks is below half a unit of a float

struct alignas(16) Four {
    float values[4];
};

// A state's column: row i is at[i * stride].
#if defined(ESP_KEY_DIM)
constexpr int kUnroll = ESP_KEY_DIM / 4;  // Fours of rows: every index is known, so the rows are registers
struct Column {
    float *at, rows[ESP_KEY_DIM];
    int64_t stride;

    static constexpr int n_rows() { return ESP_KEY_DIM; }
    ESP_FN float& operator[](int i) { return rows[i]; }
    ESP_FN void begin(float* first, int, int value_dim, bool is_fresh) {
        at = first, stride = value_dim;
#pragma unroll
        for (int i = 0; i < ESP_KEY_DIM; ++i) rows[i] = is_fresh ? 0.0f : at[i * stride];
    }
    ESP_FN void end() const {
#pragma unroll
        for (int i = 0; i < ESP_KEY_DIM; ++i) at[i * stride] = rows[i];
    }
};
#else
constexpr int kUnroll = 1;
struct Column {
    float* at;
    int key_dim;
    int64_t stride;

    ESP_FN int n_rows() const { return key_dim; }
    ESP_FN float& operator[](int i) { return at[i * stride]; }
    ESP_FN void begin(float* first, int n_rows, int value_dim, bool is_fresh) {
        at = first, key_dim = n_rows, stride = value_dim;
        if (!is_fresh) return;
        for (int i = 0; i < key_dim; ++i) at[i * stride] = 0.0f;
    }
    ESP_FN void end() const {}
};
#endif

// What a group of tokens brings to one head, in shared memory. Rows of queries and keys are padded to whole Fours.
struct Group {
    Four* rows;  // [n_tokens, 2, row_fours]: query, key
    float *decays, *gains;
    int row_fours;

    ESP_FN Four* query(int token) const { return rows + 2 * token * row_fours; }
    ESP_FN Four* key(int token) const { return query(token) + row_fours; }
};

// x divided by the root of its sum of squares + eps, times scale, by one warp. The sum is the CPU's: 64 running ones, then a
// tail into the first sixteen.
ESP_FN void norm_row(const float* x, int n, float eps, float scale, Four* row, int row_fours) {
    const int lane = threadIdx.x & 31;
    float low = 0.0f, high = 0.0f;
    int first = 0;
    for (; first + 64 <= n; first += 64) {
        const float a = x[first + lane], b = x[first + 32 + lane];
        low = fma_f32(a, a, low), high = fma_f32(b, b, high);
    }
    if (lane < 16)
        for (int i = first + lane; i < n; i += 16) low = fma_f32(x[i], x[i], low);
    low = low + shfl_down(low, 16), high = high + shfl_down(high, 16);
    const float root = sqrtf(shfl(halving_sum(low + high), 0) + eps);
    float* y = row->values;
    for (int i = lane; i < 4 * row_fours; i += 32) y[i] = i < n ? x[i] / root * scale : 0.0f;
}

ESP_FN float softplus(float x) {
    return x <= kLargeGate ? float(logarithm(1.0 + double(exponential(x)))) : x;
}

// The first token's known values k S over the decayed state, which `column` then is.
ESP_FN float first_known(Column& column, const Four* keys, float decay) {
    float known = 0.0f;
#pragma unroll kUnroll
    for (int i = 0; i < column.n_rows(); i += 4) {
        const Four key = keys[i / 4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (i + j >= column.n_rows()) break;
            const float decayed = column[i + j] * decay;
            known = fma_f32(decayed, key.values[j], known);
            column[i + j] = decayed;
        }
    }
    return known;
}

// S = S + k r and the token's result q S; then the same for the next token as first_known does. A decay of 1 leaves the
// bits of S as they are: that is what the last token of a group passes, to which next_keys do not matter.
ESP_FN float take_in(Column& column, const Four* queries, const Four* keys, float r, const Four* next_keys, float next_decay,
                     float& known) {
    float result = 0.0f;
    known = 0.0f;
#pragma unroll kUnroll
    for (int i = 0; i < column.n_rows(); i += 4) {
        const Four query = queries[i / 4], key = keys[i / 4], next_key = next_keys[i / 4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (i + j >= column.n_rows()) break;
            const float s = fma_f32(key.values[j], r, column[i + j]), decayed = s * next_decay;
            result = fma_f32(s, query.values[j], result);
            known = fma_f32(decayed, next_key.values[j], known);
            column[i + j] = decayed;
        }
    }
    return result;
}

// A column over the group's tokens. v, y: its value and result of the first of them.
ESP_FN void run_group(Column& column, const Group& group, int n_tokens, const float* v, int64_t v_stride, float* y, int64_t y_stride) {
    float known = first_known(column, group.key(0), group.decays[0]);
#pragma unroll 1
    for (int t = 0; t < n_tokens; ++t, v += v_stride, y += y_stride) {
        const int next = min(t + 1, n_tokens - 1);
        const float r = group.gains[t] * (*v - known);
        *y = take_in(column, group.query(t), group.key(t), r, group.key(next), next > t ? group.decays[next] : 1.0f, known);
    }
}

// The second launch bound keeps the compiler from aiming at more blocks a multiprocessor and spilling for them.
extern "C" __global__ void __launch_bounds__(kMaxThreads, 1)
    delta_net(const float* qkv, const float* alpha, const float* beta, const float* dt, const float* a, const int* query_start,
              const int* context_lens, const int* slots, int n_k_head, int key_dim, int value_dim, float eps, float query_scale,
              float* states, float* y) {
    __shared__ Four rows[kGroupFloats / 4];
    __shared__ float decays[kMaxGroup], gains[kMaxGroup];
    const Sequence sequence = sequence_at(query_start, context_lens, slots, blockIdx.z);
    const int head = blockIdx.y, n_head = gridDim.y, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t n_keys = int64_t(n_k_head) * key_dim, n_channels = 2 * n_keys + int64_t(n_head) * value_dim;
    const int64_t y_stride = int64_t(n_head) * value_dim;
    y += sequence.first_token * y_stride + int64_t(head) * value_dim + at;
    if (sequence.slot < 0) {
        for (int t = 0; t < sequence.n_tokens && at < value_dim; ++t) y[t * y_stride] = 0.0f;
        return;
    }
    qkv += sequence.first_token * n_channels;
    Column column;
    if (at < value_dim)
        column.begin(states + (int64_t(sequence.slot) * n_head + head) * key_dim * value_dim + at, key_dim, value_dim, sequence.is_fresh);
    const Group group{rows, decays, gains, (key_dim + 3) / 4};
    const int group_tokens = min(kMaxGroup, kGroupFloats / (8 * group.row_fours));
#pragma unroll 1
    for (int first = 0; first < sequence.n_tokens; first += group_tokens) {
        const int n_tokens = min(group_tokens, sequence.n_tokens - first);
        block_sync();  // every thread has done with the last group
        for (int i = warp; i < 2 * n_tokens; i += n_warps) {
            const bool is_key = i & 1;
            const float* x = qkv + (first + i / 2) * n_channels + is_key * n_keys + int64_t(head % n_k_head) * key_dim;
            norm_row(x, key_dim, eps, is_key ? 1.0f : query_scale, group.query(i / 2) + is_key * group.row_fours, group.row_fours);
        }
        if (int(threadIdx.x) < n_tokens) {
            const int64_t gate = int64_t(sequence.first_token + first + threadIdx.x) * n_head + head;
            decays[threadIdx.x] = exponential(softplus(alpha[gate] + dt[head]) * a[head]);
            gains[threadIdx.x] = sigmoid_product(1.0f, beta[gate]);
        }
        block_sync();
        if (at >= value_dim) continue;
        const float* v = qkv + first * n_channels + 2 * n_keys + int64_t(head) * value_dim + at;
        run_group(column, group, n_tokens, v, n_channels, y + first * y_stride, y_stride);
    }
    if (at < value_dim) column.end();
}

}  // namespace espalier
