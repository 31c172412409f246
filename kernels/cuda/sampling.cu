// The highest logit of each row and where it is, so that a greedy request's row need not go to the host.
// x float32 [n_rows, n]. Bound by memory at many rows, by latency at few: a row is shared out to ceil(n / 4096) blocks.
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kThreads = 256;
constexpr int kPart = 4096;  // values of one block

// Orders (value, id) pairs as numpy.argmax does: NaN before everything, +0 like -0, of equals the lower id.
ESP_FN uint64_t key_of(float value, int id) {
    const uint32_t bits = value == 0.0f ? 0u : bits_from_float(value);
    const uint32_t ordered = value != value ? ~0u : (bits >> 31 ? ~bits : bits | 1u << 31);
    return uint64_t(ordered) << 32 | uint32_t(~id);
}

// The highest key of the warp, in every lane.
ESP_FN uint64_t warp_highest(uint64_t key) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const uint64_t other = shfl_xor(key, lanes);
        key = other > key ? other : key;
    }
    return key;
}

// ---- keys [n_rows, gridDim.x]: the highest of each part.   grid (ceil(n / 4096), n_rows)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) part_peaks(const float* x, int n, uint64_t* keys) {
    __shared__ uint64_t of_warps[kThreads / 32];
    const float* row = x + int64_t(blockIdx.y) * n;
    const int first = int(blockIdx.x) * kPart, end = min(first + kPart, n);
    uint64_t highest = 0;
    for (int i = first + int(threadIdx.x); i < end; i += kThreads) {
        const uint64_t key = key_of(row[i], i);
        highest = key > highest ? key : highest;
    }
    highest = warp_highest(highest);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = highest;
    block_sync();
    if (threadIdx.x >= 32) return;
    highest = warp_highest(threadIdx.x < kThreads / 32 ? of_warps[threadIdx.x] : 0);
    if (threadIdx.x == 0) keys[int64_t(blockIdx.y) * gridDim.x + blockIdx.x] = highest;
}

// ---- out [n_rows, 2]: the highest logit as it was, and its id as int32.   grid n_rows   block 32
extern "C" __global__ void __launch_bounds__(32) peaks(const float* x, int n, const uint64_t* keys, int n_parts, float* out) {
    uint64_t highest = 0;
    for (int i = threadIdx.x; i < n_parts; i += 32) {
        const uint64_t key = keys[int64_t(blockIdx.x) * n_parts + i];
        highest = key > highest ? key : highest;
    }
    highest = warp_highest(highest);
    if (threadIdx.x != 0) return;
    const uint32_t id = ~uint32_t(highest);
    out[2 * blockIdx.x] = x[int64_t(blockIdx.x) * n + id];
    out[2 * blockIdx.x + 1] = float_from_bits(id);
}

}  // namespace espalier
