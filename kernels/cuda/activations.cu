// What happens to activations between the linears, with their int8 form written on the way where a linear follows.
// x, y float32 [n_tokens, n] unless said; q, dx, sums as in quantize.cuh, q null where not wanted (then n may be anything).
// All are bound by launch and latency at one token, by memory at many.
#include "cuda/gated.cuh"
#include "cuda/rotation.cuh"

namespace espalier {

constexpr int kThreads = 256;
constexpr int kSquareLanes = 64;  // the CPU's order of summing squares: 64 running sums, then a tail into the first 16

// ---- int8 form of x.   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) quantize_activations(const float* x, int n, int8_t* q, float* dx,
                                                                           int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;  // n is a multiple of 32: whole warps leave
    quantize_block(x[int64_t(token) * n + i], i / 32, quantized_row(q, dx, sums, token, n));
}

// ---- int8 form of x in rows 2t, of what that leaves of it in rows 2t + 1: q, dx, sums of 2 n_tokens rows.
// grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) quantize_planes(const float* x, int n, int8_t* q, float* dx, int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;  // n is a multiple of 32: whole warps leave
    const float rest = quantize_block(x[int64_t(token) * n + i], i / 32, quantized_row(q, dx, sums, 2 * token, n));
    quantize_block(rest, i / 32, quantized_row(q, dx, sums, 2 * token + 1, n));
}

// ---- y[t] = x[2t] + x[2t + 1], the products of two planes; plus residual like y, unless it is null.   x [2 n_tokens, n]
// grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) add_planes(const float* x, int n, const float* residual, float* y) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= n) return;
    const int64_t at = int64_t(blockIdx.y) * n + i, first = int64_t(2 * blockIdx.y) * n + i;
    const float sum = x[first] + x[first + n];
    y[at] = residual == nullptr ? sum : residual[at] + sum;
}

// Sum of squares of one row, in the CPU's order; every thread has it.
ESP_FN float sum_of_squares(const float* x, int n) {
    __shared__ float lanes[kSquareLanes];
    __shared__ float total;
    if (threadIdx.x < kSquareLanes) {
        float acc = 0.0f;
        int first = 0;
        for (; first + kSquareLanes <= n; first += kSquareLanes) {
            const float v = x[first + threadIdx.x];
            acc = fma_f32(v, v, acc);
        }
        if (threadIdx.x < 16) {
            for (int i = first + threadIdx.x; i < n; i += 16) acc = fma_f32(x[i], x[i], acc);
        }
        lanes[threadIdx.x] = acc;
    }
    block_sync();
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x & 15;
        const float sum = halving_sum((lanes[lane] + lanes[lane + 16]) + (lanes[lane + 32] + lanes[lane + 48]));
        if (threadIdx.x == 0) total = sum;
    }
    block_sync();
    return total;
}

// ---- y = x / sqrt(mean(x^2) + eps) * weight [n].   grid n_tokens   block 256
extern "C" __global__ void __launch_bounds__(kThreads) rms_norm(const float* x, const float* weight, float eps, int n, float* y,
                                                               int8_t* q, float* dx, int* sums) {
    const int token = blockIdx.x;
    x += int64_t(token) * n, y += int64_t(token) * n;
    const QuantizedRow quantized = quantized_row(q, dx, sums, token, n);
    const float mean = sum_of_squares(x, n) / float(n);
    const float root = sqrtf(mean + eps);
    for (int i = threadIdx.x; i < n; i += kThreads) {
        const float value = x[i] / root * weight[i];
        y[i] = value;
        if (quantized.q != nullptr) quantize_block(value, i / 32, quantized);
    }
}

// ---- out [n_rows, n + m]: a row of x [n_rows, n], then one of y [n_rows, m].   grid (n_rows, ceil((n + m) / 256))   block 256
extern "C" __global__ void __launch_bounds__(kThreads) concat(const float* x, const float* y, int n, int m, float* out) {
    const int i = blockIdx.y * kThreads + threadIdx.x;
    const int64_t row = blockIdx.x;
    if (i < n + m) out[row * (n + m) + i] = i < n ? x[row * n + i] : y[row * m + i - n];
}

// ---- y = gate / (1 + exp(-gate)) * up.   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) silu_mul(const float* gate, const float* up, int n, float* y, int8_t* q,
                                                               float* dx, int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;
    const int64_t at = int64_t(token) * n + i;
    const float value = silu_product(gate[at], up[at]);
    y[at] = value;
    if (q != nullptr) quantize_block(value, i / 32, quantized_row(q, dx, sums, token, n));
}

// ---- y = gelu(gate) * up, with the tangent's exponential.   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) gelu_mul(const float* gate, const float* up, int n, float* y, int8_t* q,
                                                               float* dx, int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;
    const int64_t at = int64_t(token) * n + i;
    const float g = gate[at], minus_twice_y = -1.5957691216f * g * fma_f32(g * g, 0.044715f, 1.0f);
    const float value = g / (1.0f + exponential(minus_twice_y)) * up[at];
    y[at] = value;
    if (q != nullptr) quantize_block(value, i / 32, quantized_row(q, dx, sums, token, n));
}

// ---- y = x / (1 + exp(-gate)).   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) sigmoid_mul(const float* x, const float* gate, int n, float* y, int8_t* q,
                                                                  float* dx, int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;
    const int64_t at = int64_t(token) * n + i;
    const float value = sigmoid_product(x[at], gate[at]);
    y[at] = value;
    if (q != nullptr) quantize_block(value, i / 32, quantized_row(q, dx, sums, token, n));
}

// ---- y = residual + x / (1 + exp(-gate)), gate [n_tokens].   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) add_gated(const float* residual, const float* x, const float* gate, int n,
                                                                float* y) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    const int64_t at = int64_t(blockIdx.y) * n + i;
    if (i < n) y[at] = residual[at] + sigmoid_product(x[at], gate[blockIdx.y]);
}

// ---- z = x + y, all of n_values.   grid ceil(n_values / 256)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) add(const float* x, const float* y, int64_t n_values, float* z) {
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i < n_values) z[i] = x[i] + y[i];
}

// ---- y = x + bias [n].   grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) add_bias(const float* x, const float* bias, int n, float* y) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    const int64_t at = int64_t(blockIdx.y) * n + i;
    if (i < n) y[at] = x[at] + bias[i];
}

// ---- y = x * factors[positions[token] / stride], the index held within 0 .. last.   grid (ceil(n / 256), n_tokens)
// block 256
extern "C" __global__ void __launch_bounds__(kThreads) scale_by_position(const float* x, const int* positions, const float* factors,
                                                                         int stride, int last, int n, float* y) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    const int64_t at = int64_t(blockIdx.y) * n + i;
    const int step = positions[blockIdx.y] / stride;
    if (i < n) y[at] = x[at] * factors[step < 0 ? 0 : step > last ? last : step];
}

// ---- y[r] = x[rows[r]], rows int32 [n_rows].   grid (ceil(n / 256), n_rows)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) take_rows(const float* x, const int* rows, int n, float* y) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i < n) y[int64_t(blockIdx.y) * n + i] = x[int64_t(rows[blockIdx.y]) * n + i];
}

// ---- cos and sin of position * freq, each times mscale: y [n_tokens, half, 2]. In double: a float product loses whole
// turns at long positions.   grid (ceil(half / 32), n_tokens)   block 32
extern "C" __global__ void __launch_bounds__(32) rope_angles(const int* positions, const float* freqs, float mscale, int half,
                                                            float* y) {
    const int i = blockIdx.x * 32 + threadIdx.x, token = blockIdx.y;
    if (i >= half) return;
    const double angle = double(positions[token]) * double(freqs[i]);
    float* pair = y + 2 * (int64_t(token) * half + i);
    pair[0] = float(cos(angle) * double(mscale));
    pair[1] = float(sin(angle) * double(mscale));
}

// ---- Rotates the first 2 * half values of each head. x, y [n_tokens, n_head, head_dim], angles [n_tokens, half, 2].
// interleaved: pairs (2i, 2i + 1), else (i, i + half).   grid (n_head, n_tokens)   block 128
extern "C" __global__ void __launch_bounds__(128) rope(const float* x, const float* angles, int head_dim, int half,
                                                      int interleaved, float* y) {
    const int64_t at = (int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * head_dim;
    rotate_head(x + at, {angles + int64_t(blockIdx.y) * half * 2, half, interleaved}, head_dim, y + at);
}

}  // namespace espalier
