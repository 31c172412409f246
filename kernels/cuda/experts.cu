// Mixtures of experts: the router's choice, the order in which rows go through a stack (stack_linear.cuh), and what
// becomes of the products. No kernel needs the host to know which experts were chosen, so a pass can be recorded.
//   row    a token and slot, or of two planes of activations one of the two: row i belongs to pair i / planes
//   place  of a row in the order by matrices
#include "cuda/gated.cuh"

namespace espalier {

constexpr int kThreads = 256;
constexpr int kWarpThreads = 32;

enum Gating { kSoftmax, kSigmoid, kSoftmaxOfChosen };

ESP_FN float minus_infinity() { return float_from_bits(0xFF800000u); }
ESP_FN bool is_finite(float x) { return (bits_from_float(x) & 0x7F800000u) != 0x7F800000u; }

// The highest value of a warp's lanes and its index, the lower one of equals; index INT_MAX where a lane has none.
struct Best {
    float score;
    int index;

    ESP_FN void take(float other_score, int other_index) {
        const bool better = other_score > score || (other_score == score && other_index < index) || index == 0x7FFFFFFF;
        if (other_index != 0x7FFFFFFF && better) score = other_score, index = other_index;
    }
};

// Of scores [n]; NaN: taken already.
ESP_FN Best warp_best(const float* scores, int n) {
    Best best{minus_infinity(), 0x7FFFFFFF};
    for (int i = threadIdx.x; i < n; i += kWarpThreads)
        if (scores[i] == scores[i]) best.take(scores[i], i);
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const float score = shfl_xor(best.score, lanes);
        const int index = shfl_xor(best.index, lanes);
        best.take(score, index);
    }
    return best;
}

ESP_FN float warp_highest(const float* x, int n) {
    float highest = minus_infinity();
    for (int i = threadIdx.x; i < n; i += kWarpThreads) highest = x[i] > highest ? x[i] : highest;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const float other = shfl_xor(highest, lanes);
        highest = other > highest ? other : highest;
    }
    return highest;
}

ESP_FN void find_probs(const float* logits, int n, int gating, float* probs) {
    const float highest = gating == kSoftmax ? warp_highest(logits, n) : 0.0f;
    for (int i = threadIdx.x; i < n; i += kWarpThreads) {
        const float x = logits[i];
        probs[i] = gating == kSoftmax   ? exponential(x - highest)
                   : gating == kSigmoid ? 1.0f / (1.0f + exponential(-x))
                                        : x;
    }
    block_sync();
    if (gating != kSoftmax) return;
    float lane_sum = 0.0f;
    if (threadIdx.x < 16)
        for (int i = threadIdx.x; i < n; i += 16) lane_sum = lane_sum + probs[i];
    const float sum = shfl(halving_sum(lane_sum), 0);
    for (int i = threadIdx.x; i < n; i += kWarpThreads) probs[i] = probs[i] / sum;
    block_sync();
}

// Scores of experts outside the best groups become -infinity. A group is as good as its two best together.
ESP_FN void leave_best_groups(float* scores, int n, int n_group, int n_group_used, float* group_scores) {
    const int size = n / n_group;
    for (int g = threadIdx.x; g < n_group; g += kWarpThreads) {
        float first = minus_infinity(), second = minus_infinity();
        for (int i = g * size; i < (g + 1) * size; ++i) {
            const float score = scores[i];
            if (score > first) second = first, first = score;
            else if (score > second) second = score;
        }
        const float score = size == 1 ? first : first + second;
        group_scores[g] = score == score ? score : minus_infinity();  // NaN: chosen already
    }
    block_sync();
    for (int used = 0; used < n_group_used; ++used) {
        const Best best = warp_best(group_scores, n_group);
        block_sync();
        if (threadIdx.x == 0) group_scores[best.index] = float_from_bits(0x7FC00000u);
        block_sync();
    }
    for (int i = threadIdx.x; i < n; i += kWarpThreads)
        if (group_scores[i / size] == group_scores[i / size]) scores[i] = minus_infinity();
    block_sync();
}

// By one thread: sums in the order of the slots.
ESP_FN void finish_weights(float* weights, int n, int gating, int normalize, float least_sum, float scale) {
    if (gating == kSoftmaxOfChosen) {
        float highest = weights[0], sum = 0.0f;
        for (int i = 1; i < n; ++i) highest = weights[i] > highest ? weights[i] : highest;
        for (int i = 0; i < n; ++i) {
            weights[i] = exponential(weights[i] - highest);
            sum = i == 0 ? weights[0] : sum + weights[i];
        }
        for (int i = 0; i < n; ++i) weights[i] = weights[i] / sum;
    }
    if (normalize) {
        float sum = weights[0];
        for (int i = 1; i < n; ++i) sum = sum + weights[i];
        sum = sum < least_sum ? least_sum : sum;
        for (int i = 0; i < n; ++i) weights[i] = weights[i] / sum;
    }
    for (int i = 0; i < n; ++i) weights[i] = weights[i] * scale;
}

// ---- experts int32 and weights float32 [n_tokens, n_used] of logits [n_tokens, n_expert]; bias [n_expert] or null.
// scratch float32 [n_tokens, 2 n_expert + n_group].   grid n_tokens   block 32
extern "C" __global__ void __launch_bounds__(kWarpThreads) route(const float* logits, const float* bias, int n_expert, int gating,
                                                                 int n_used, int n_group, int n_group_used, int normalize,
                                                                 float least_sum, float scale, float* scratch, int* experts,
                                                                 float* weights) {
    logits += int64_t(blockIdx.x) * n_expert, experts += int64_t(blockIdx.x) * n_used, weights += int64_t(blockIdx.x) * n_used;
    float* probs = scratch + int64_t(blockIdx.x) * (2 * n_expert + n_group);
    float* scores = probs + n_expert;
    bool finite = true;
    for (int i = threadIdx.x; i < n_expert; i += kWarpThreads) finite = finite && is_finite(logits[i]);
    if (!warp_all(finite)) {
        for (int slot = threadIdx.x; slot < n_used; slot += kWarpThreads)
            experts[slot] = slot, weights[slot] = float_from_bits(0x7FC00000u);
        return;
    }
    find_probs(logits, n_expert, gating, probs);
    for (int i = threadIdx.x; i < n_expert; i += kWarpThreads) {
        const float score = bias == nullptr ? probs[i] : probs[i] + bias[i];
        scores[i] = score == score ? score : minus_infinity();
    }
    block_sync();
    if (n_group_used < n_group) leave_best_groups(scores, n_expert, n_group, n_group_used, scores + n_expert);
    for (int slot = 0; slot < n_used; ++slot) {
        const Best best = warp_best(scores, n_expert);
        block_sync();
        if (threadIdx.x == 0) {
            experts[slot] = best.index, weights[slot] = probs[best.index];
            scores[best.index] = float_from_bits(0x7FC00000u);
        }
        block_sync();
    }
    if (threadIdx.x == 0) finish_weights(weights, n_used, gating, normalize, least_sum, scale);
}

// The matrix of a row: experts by pair, or where experts is null one matrix after the other.
ESP_FN int matrix_of(const int* experts, int row, int planes, int n) {
    const int matrix = experts == nullptr ? row / planes % n : experts[row / planes];
    return matrix < 0 ? 0 : matrix < n ? matrix : n - 1;
}

// Sums of a and b over the threads up to this one.
ESP_FN int2 inclusive_sums(int a, int b, int2 (&sums)[2][kThreads]) {
    int from = 0;
    sums[0][threadIdx.x] = make_int2(a, b);
    block_sync();
    for (int step = 1; step < kThreads; step *= 2, from = 1 - from) {
        int2 sum = sums[from][threadIdx.x];
        if (int(threadIdx.x) >= step) {
            const int2 other = sums[from][threadIdx.x - step];
            sum.x += other.x, sum.y += other.y;
        }
        sums[1 - from][threadIdx.x] = sum;
        block_sync();
    }
    return sums[from][threadIdx.x];
}

// ---- Rows by matrix: order[place] is a row, places[row] its place. tiles [n_tiles, 4]: matrix, first place and number of up
// to tile_rows rows of one matrix, the last ones empty. cursors [n] is scratch. Which place a row of a matrix gets is left to
// chance: no product depends on it.   grid 1   block 256
extern "C" __global__ void __launch_bounds__(kThreads) sort_rows(const int* experts, int n_rows, int planes, int n, int tile_rows,
                                                                 int* cursors, int* order, int* places, int* tiles, int n_tiles) {
    __shared__ int2 sums[2][kThreads];
    for (int i = threadIdx.x; i < n; i += kThreads) cursors[i] = 0;
    block_sync();
    for (int i = threadIdx.x; i < n_rows; i += kThreads) atomic_add(cursors + matrix_of(experts, i, planes, n), 1);
    fence_device();
    block_sync();
    int row = 0, tile = 0;  // before the chunk's matrices
    for (int first = 0; first < n; first += kThreads) {
        const int matrix = first + int(threadIdx.x), count = matrix < n ? cursors[matrix] : 0;
        const int n_own = (count + tile_rows - 1) / tile_rows;
        const int2 end = inclusive_sums(count, n_own, sums);
        const int2 all = sums[0][kThreads - 1];  // kThreads is 2^8: after eight steps the sums are in the first half
        const int start = row + end.x - count;
        if (matrix < n) cursors[matrix] = start;
        for (int j = 0; j < n_own; ++j) {
            int* out = tiles + 4 * (tile + end.y - n_own + j);
            out[0] = matrix, out[1] = start + j * tile_rows, out[2] = min(tile_rows, count - j * tile_rows), out[3] = 0;
        }
        row += all.x, tile += all.y;
        block_sync();
    }
    for (int i = 4 * tile + int(threadIdx.x); i < 4 * n_tiles; i += kThreads) tiles[i] = 0;
    fence_device();
    block_sync();
    for (int i = threadIdx.x; i < n_rows; i += kThreads) {
        const int place = atomic_add(cursors + matrix_of(experts, i, planes, n), 1);
        order[place] = i, places[i] = place;
    }
}

// The row of the activations that a row reads: slots pairs share one.
ESP_FN int64_t source_of(const int* order, int place, int slots, int planes) {
    const int row = order[place];
    return int64_t(row / planes / slots) * planes + row % planes;
}

// ---- The int8 form of the rows by place: sorted_* from q, dx, sums (quantize.cuh).
// grid (ceil(n_in / 1024), n_rows)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) gather_int8(const int* order, int slots, int planes, int n_in,
                                                                   const int8_t* q, const float* dx, const int* sums,
                                                                   int8_t* sorted_q, float* sorted_dx, int* sorted_sums) {
    const int word = blockIdx.x * kThreads + threadIdx.x;
    const int64_t from = source_of(order, blockIdx.y, slots, planes), to = blockIdx.y;
    if (word >= n_in / 4) return;
    reinterpret_cast<uint32_t*>(sorted_q + to * n_in)[word] = reinterpret_cast<const uint32_t*>(q + from * n_in)[word];
    if (word % 8) return;
    sorted_dx[to * (n_in / 32) + word / 8] = dx[from * (n_in / 32) + word / 8];
    sorted_sums[to * (n_in / 32) + word / 8] = sums[from * (n_in / 32) + word / 8];
}

// ---- The same of floats.   grid (ceil(n_in / 256), n_rows)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) gather_floats(const int* order, int slots, int n_in, const float* x,
                                                                     float* sorted) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i < n_in) sorted[int64_t(blockIdx.y) * n_in + i] = x[source_of(order, blockIdx.y, slots, 1) * n_in + i];
}

// The product of a pair and output: y [n_rows, n] by place, the planes added.
ESP_FN float product(const float* y, const int* places, int pair, int planes, int n, int i) {
    const float first = y[int64_t(places[pair * planes]) * n + i];
    return planes == 1 ? first : first + y[int64_t(places[2 * pair + 1]) * n + i];
}

// ---- y [n_pairs, n] = silu(gate) * up of each pair, and its int8 form unless q is null.
// grid (ceil(n / 256), n_pairs)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) gated_rows(const float* gate, const int* gate_places, int gate_planes,
                                                                  const float* up, const int* up_places, int up_planes, int n,
                                                                  float* y, int8_t* q, float* dx, int* sums) {
    const int i = blockIdx.x * kThreads + threadIdx.x, pair = blockIdx.y;
    if (i >= n) return;
    const float value =
        silu_product(product(gate, gate_places, pair, gate_planes, n, i), product(up, up_places, pair, up_planes, n, i));
    y[int64_t(pair) * n + i] = value;
    if (q != nullptr) quantize_block(value, i / 32, quantized_row(q, dx, sums, pair, n));
}

// ---- out [n_tokens, n] = residual + the sum of weight * product over a token's slots, in their order, from zero.
// grid (ceil(n / 256), n_tokens)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) weighted_rows(const float* y, const int* places, int planes,
                                                                     const float* weights, int n_used, int n,
                                                                     const float* residual, float* out) {
    const int i = blockIdx.x * kThreads + threadIdx.x, token = blockIdx.y;
    if (i >= n) return;
    float sum = 0.0f;
    for (int slot = 0; slot < n_used; ++slot) {
        const int pair = token * n_used + slot;
        sum = fma_f32(weights[pair], product(y, places, pair, planes, n, i), sum);
    }
    out[int64_t(token) * n + i] = residual[int64_t(token) * n + i] + sum;
}

// ---- out [n_pairs, n]: the products in the order of the pairs.   grid (ceil(n / 256), n_pairs)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) products_of_pairs(const float* y, const int* places, int planes, int n,
                                                                         float* out) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i < n) out[int64_t(blockIdx.y) * n + i] = product(y, places, blockIdx.y, planes, n, i);
}

}  // namespace espalier
