// Choosing a token for each row of logits: changes and masks, the highest logit, draws at a temperature, log-probabilities.
// kernels/reference/choice.py says which token; no row need go to the host. x float32 [n_rows, n], rows ChoiceRow [n_rows].
// Bound by memory at many rows, by latency at few: a row is shared out to ceil(n / 4096) blocks.
#include "common/choice.h"
#include "common/mass.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kThreads = 256;
constexpr int kPart = 4096;  // values of one block

ESP_FN float forbidden() { return float_from_bits(0xFF800000u); }  // -infinity

// The row's bits of the mask; null where all is allowed.
ESP_FN const int32_t* mask_of(const int32_t* mask, const ChoiceRow* rows, int row, int n) {
    return mask != nullptr && rows[row].has_mask ? mask + int64_t(row) * ((n + 31) / 32) : nullptr;
}

// ---- y = x where the mask allows it. mask [n_rows, ceil(n / 32)] or null.   grid (ceil(n / 4096), n_rows)   block 256
extern "C" __global__ void __launch_bounds__(kThreads) copy_allowed(const float* x, int n, const ChoiceRow* rows,
                                                                   const int32_t* mask, float* y) {
    const int64_t at = int64_t(blockIdx.y) * n;
    const int32_t* allowed = mask_of(mask, rows, blockIdx.y, n);
    const int first = int(blockIdx.x) * kPart, end = min(first + kPart, n);
    for (int i = first + int(threadIdx.x); i < end; i += kThreads) {
        y[at + i] = allowed == nullptr || is_allowed(allowed, i) ? x[at + i] : forbidden();
    }
}

// ---- y, as copy_allowed leaves it, with the row's changes, changes[starts[row]] up to starts[row + 1], ids once each, and
// that of token_ids[row] where it is unread.   grid n_rows   block 256
extern "C" __global__ void __launch_bounds__(kThreads) change_logits(const float* x, int n, const ChoiceRow* rows,
                                                                    const int32_t* mask, const Change* changes,
                                                                    const int* starts, const int* token_ids, float* y) {
    __shared__ int met;
    const ChoiceRow row = rows[blockIdx.x];
    const int32_t* allowed = mask_of(mask, rows, blockIdx.x, n);
    const int unread = row.n_unread ? token_ids[blockIdx.x] : -1;
    x += int64_t(blockIdx.x) * n, y += int64_t(blockIdx.x) * n;
    if (threadIdx.x == 0) met = 0;
    block_sync();
    for (int i = starts[blockIdx.x] + int(threadIdx.x); i < starts[blockIdx.x + 1]; i += kThreads) {
        Change change = changes[i];
        const int id = change.token_id;
        if (id == unread) change.n_answered += 1, change.is_seen = 1, met = 1;
        if (allowed == nullptr || is_allowed(allowed, id)) y[id] = changed(x[id], change, row);
    }
    block_sync();
    if (threadIdx.x != 0 || unread < 0 || met || !(allowed == nullptr || is_allowed(allowed, unread))) return;
    y[unread] = changed(x[unread], {unread, 1, 1, -0.0f}, row);
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

// ---- drawing: the highest of (logit - peak) / temperature + Gumbel noise, as kernels/reference draws it, in
// plain double operations, so that the token is the same.

struct Candidate {
    uint64_t key;  // the order of the sum; 0 where there is none
    int id;
};

ESP_FN Candidate better(Candidate a, Candidate b) {
    return b.key > a.key || (b.key == a.key && b.id < a.id) ? b : a;
}

// The best candidate of the warp, in every lane.
ESP_FN Candidate warp_best(Candidate best) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const Candidate other{shfl_xor(best.key, lanes), shfl_xor(best.id, lanes)};
        best = better(best, other);
    }
    return best;
}

// ---- Which keys may be drawn: the highest ones whose amounts together reach a target. For top_k an amount is one, for top_p
// the token's mass; both are integers, whose sums are the same in any order.

struct Bound {
    uint64_t amount[256];  // of the keys that begin as the bound does, by their next byte
    int count[256];        // of those keys
    uint64_t above;        // the amounts of higher keys
    double target;
    int digit;
};

// The next byte: the highest with which the amounts reach the target. One warp. share > 0: the target is that share of all.
ESP_FN void find_digit(Bound& bound, double share) {
    const int lane = threadIdx.x, highest = 255 - 8 * lane;  // a lane has eight digits, downwards
    uint64_t sum = 0;
    for (int j = 0; j < 8; ++j) sum += bound.amount[highest - j];
    uint64_t up_to_here = sum;
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        const uint64_t other = shfl_up(up_to_here, lanes);
        if (lane >= lanes) up_to_here += other;
    }
    const double target = share > 0.0 ? share * double(shfl(up_to_here, 31)) : bound.target;
    uint64_t above = bound.above + up_to_here - sum;
    const bool mine = double(above) < target && double(above + sum) >= target;
    warp_sync();  // everyone has read what one lane writes
    if (!mine) return;
    for (int j = 0; j < 8; ++j) {
        const uint64_t with = above + bound.amount[highest - j];
        if (double(with) >= target) {
            bound.digit = highest - j, bound.above = above, bound.target = target;
            return;
        }
        above = with;
    }
}

// The least key of those that are needed, of keys not below `from`; a byte at a time. The whole block. kMasses: x is weighed
// as logits `peak - x` below the highest, and the target is `share` of the whole; else `target` keys are needed.
template <bool kMasses>
ESP_FN uint64_t least_needed(const float* x, int n, uint64_t from, double target, float peak, float rate, double share,
                             Bound& bound) {
    uint64_t prefix = 0, known = 0;  // known: the bits that the prefix has already
    if (threadIdx.x == 0) bound.above = 0, bound.target = target;
    for (int shift = 56; shift >= 0; shift -= 8) {
        bound.amount[threadIdx.x] = 0, bound.count[threadIdx.x] = 0;
        block_sync();
        // Most keys begin alike: what a thread has of one digit is added up before it goes to where all threads add.
        int digit = 0, count = 0;
        uint64_t amount = 0;
        for (int i = threadIdx.x; i < n; i += kThreads) {
            const uint64_t key = key_of(x[i], i);
            if ((key & known) != prefix || key < from) continue;
            const int next = int(key >> shift & 255);
            if (next != digit && count > 0) {
                atomic_add(&bound.amount[digit], amount), atomic_add(&bound.count[digit], count);
                amount = 0, count = 0;
            }
            digit = next, count += 1;
            amount += kMasses ? mass_of(x[i] - peak, rate) : 1;
        }
        if (count > 0) atomic_add(&bound.amount[digit], amount), atomic_add(&bound.count[digit], count);
        block_sync();
        if (threadIdx.x < 32) find_digit(bound, kMasses && shift == 56 ? share : 0.0);
        block_sync();
        const int found = bound.digit;
        prefix |= uint64_t(found) << shift, known |= uint64_t(255) << shift;
        // All that begin like this are needed: no further bits.
        const bool all = bound.count[found] == 1 || (!kMasses && double(bound.above + bound.amount[found]) == bound.target);
        block_sync();
        if (all) break;
    }
    return prefix > from ? prefix : from;
}

// Whether min_p comes last, when part_draws has the score at hand: finding its least key takes 32 divisions one by one.
ESP_FN bool ends_with_min_p(const ChoiceRow& row) { return (row.order >> 2 * (kChoiceSteps - 1) & 3) == kMinPStep; }

// ---- bounds [n_rows]: the least key of those that the steps leave, 0 where they leave all.   grid n_rows   block 256
extern "C" __global__ void __launch_bounds__(kThreads, 1) draw_bounds(const float* x, int n, const ChoiceRow* rows,
                                                                     const float* peaks, uint64_t* bounds) {
    __shared__ Bound shared;
    __shared__ uint64_t least;
    const ChoiceRow row = rows[blockIdx.x];
    const float peak = peaks[2 * blockIdx.x];
    if (!is_drawn(row, peak)) return;  // the whole block
    x += int64_t(blockIdx.x) * n;
    uint64_t bound = 0;
    double temperature = 1.0;
    float rate = 1.0f;
    for (int i = 0; i < kChoiceSteps; ++i) {
        const uint32_t step = row.order >> 2 * i & 3;
        if (step == kTemperatureStep) temperature = row.temperature, rate = row.rate;
        if (step == kTopKStep && row.top_k > 0 && row.top_k < uint32_t(n)) {
            const uint64_t of_k = least_needed<false>(x, n, 0, double(row.top_k), 0.0f, 0.0f, 0.0, shared);
            bound = of_k > bound ? of_k : bound;
        }
        if (step == kTopPStep && row.top_p < 1.0) {
            const double share = row.top_p > 0.0 ? row.top_p : 0x1p-1000;  // of nothing the highest token is left too
            bound = least_needed<true>(x, n, bound, 0.0, peak, rate, share, shared);
        }
        if (step == kMinPStep && i < kChoiceSteps - 1 && row.floor > double(forbidden())) {
            if (threadIdx.x == 0) least = least_key_above(row.floor, peak, temperature);
            block_sync();
            bound = least > bound ? least : bound;
            block_sync();
        }
    }
    if (threadIdx.x == 0) bounds[blockIdx.x] = bound;
}

// ---- keys, ids [n_rows, gridDim.x]: the best of each part; peaks as `peaks` left them.   grid (ceil(n / 4096), n_rows)
// block 256
extern "C" __global__ void __launch_bounds__(kThreads) part_draws(const float* x, int n, const ChoiceRow* rows, const float* peaks,
                                                                 const uint64_t* bounds, uint64_t* keys, int* ids) {
    __shared__ uint64_t key_of_warps[kThreads / 32];
    __shared__ int id_of_warps[kThreads / 32];
    const ChoiceRow draw = rows[blockIdx.y];
    const float peak = peaks[2 * blockIdx.y];
    if (!is_drawn(draw, peak)) return;  // the whole block
    const uint64_t bound = bounds[blockIdx.y];
    const double floor = ends_with_min_p(draw) ? draw.floor : double(forbidden());
    const float* row = x + int64_t(blockIdx.y) * n;
    const int first = int(blockIdx.x) * kPart, end = min(first + kPart, n);
    Candidate best{0, n};
    for (int at = first + 4 * int(threadIdx.x); at < end; at += 4 * kThreads) {
        uint32_t words[4];
        philox(uint32_t(at / 4), draw.position, draw.seed, words);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (at + j >= end || key_of(row[at + j], at + j) < bound) continue;
            const double score = score_of(row[at + j], peak, draw.temperature);
            if (score >= floor) best = better(best, {ordered_bits(score + gumbel(words[j])), at + j});
        }
    }
    best = warp_best(best);
    if (threadIdx.x % 32 == 0) key_of_warps[threadIdx.x / 32] = best.key, id_of_warps[threadIdx.x / 32] = best.id;
    block_sync();
    if (threadIdx.x >= 32) return;
    const bool mine = threadIdx.x < kThreads / 32;
    best = warp_best(mine ? Candidate{key_of_warps[threadIdx.x], id_of_warps[threadIdx.x]} : Candidate{0, n});
    if (threadIdx.x == 0) {
        const int64_t to = int64_t(blockIdx.y) * gridDim.x + blockIdx.x;
        keys[to] = best.key, ids[to] = best.id;
    }
}

// ---- The id of a drawn row's best, in the peak's id's place: peaks [n_rows, 2].   grid n_rows   block 32
extern "C" __global__ void __launch_bounds__(32) draws(const ChoiceRow* rows, const uint64_t* keys, const int* ids, int n_parts,
                                                      float* peaks) {
    const int row = blockIdx.x;
    if (!is_drawn(rows[row], peaks[2 * row])) return;  // the whole warp
    Candidate best{0, 0x7FFFFFFF};
    for (int i = threadIdx.x; i < n_parts; i += 32) {
        const int64_t at = int64_t(row) * n_parts + i;
        best = better(best, {keys[at], ids[at]});
    }
    best = warp_best(best);
    if (threadIdx.x == 0) peaks[2 * row + 1] = float_from_bits(uint32_t(best.id));
}

// ---- sums [n_rows, gridDim.x]: the mass of each part of the rows that want log-probabilities; peaks as `peaks` left them
// of x.   grid (ceil(n / 4096), n_rows)   block 256
ESP_FN bool wants_logprobs(const ChoiceRow& row, float peak) {
    return (row.wants_logprob || row.n_top_logprobs > 0) && peak - peak == 0.0f;
}

extern "C" __global__ void __launch_bounds__(kThreads) part_masses(const float* x, int n, const ChoiceRow* rows,
                                                                  const float* peaks, uint64_t* sums) {
    __shared__ uint64_t sum;
    const float peak = peaks[2 * blockIdx.y];
    if (!wants_logprobs(rows[blockIdx.y], peak)) return;  // the whole block
    if (threadIdx.x == 0) sum = 0;
    block_sync();
    const float* row = x + int64_t(blockIdx.y) * n;
    const int first = int(blockIdx.x) * kPart, end = min(first + kPart, n);
    uint64_t mine = 0;
    for (int i = first + int(threadIdx.x); i < end; i += kThreads) mine += mass_of(row[i] - peak, 1.0f);
    atomic_add(&sum, mine);
    block_sync();
    if (threadIdx.x == 0) sums[int64_t(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

// ---- out [n_rows, kLogprobColumns] of the logits x as the model gave them: peaks as `peaks` left them of x, chosen [n_rows, 2]
// as a choice does.   grid n_rows   block 256
extern "C" __global__ void __launch_bounds__(kThreads, 1) logprobs(const float* x, int n, const ChoiceRow* rows, const float* peaks,
                                                                  const uint64_t* sums, int n_parts, const float* chosen,
                                                                  float* out) {
    __shared__ Bound shared;
    __shared__ uint64_t keys[kMaxLogprobs];
    __shared__ int n_keys;
    __shared__ double log_sum;
    const ChoiceRow row = rows[blockIdx.x];
    const float peak = peaks[2 * blockIdx.x];
    out += int64_t(blockIdx.x) * kLogprobColumns;
    const int column = int(threadIdx.x);
    if (column < kLogprobColumns) out[column] = float_from_bits(column >= 1 && column <= kMaxLogprobs ? ~0u : 0x7FC00000u);
    if (!wants_logprobs(row, peak)) return;  // the whole block
    x += int64_t(blockIdx.x) * n;
    if (threadIdx.x == 0) {
        uint64_t sum = 0;
        for (int i = 0; i < n_parts; ++i) sum += sums[int64_t(blockIdx.x) * n_parts + i];
        log_sum = log_of_sum(sum);
        n_keys = 0;
    }
    const int n_top = min(int(row.n_top_logprobs), n);
    const uint64_t bound = n_top > 0 && n_top < n ? least_needed<false>(x, n, 0, double(n_top), 0.0f, 0.0f, 0.0, shared) : 0;
    block_sync();
    if (threadIdx.x == 0 && row.wants_logprob) {
        out[0] = logprob_of(x[bits_from_float(chosen[2 * blockIdx.x + 1])], peak, log_sum);
    }
    if (n_top == 0) return;  // the whole block
    for (int i = threadIdx.x; i < n; i += kThreads) {
        const uint64_t key = key_of(x[i], i);
        if (key >= bound) keys[atomic_add(&n_keys, 1)] = key;
    }
    block_sync();
    if (column >= n_top) return;
    int rank = 0;
    for (int i = 0; i < n_top; ++i) rank += keys[i] > keys[column];
    const uint32_t id = ~uint32_t(keys[column]);
    out[1 + rank] = float_from_bits(id);
    out[1 + kMaxLogprobs + rank] = logprob_of(x[id], peak, log_sum);
}

// ---- Chosen ids become the next pass's tokens before the host knows them: token_ids [n], that of row rows[i] of peaks; the
// host's where rows[i] < 0.   grid ceil(n / 32)   block 32
extern "C" __global__ void __launch_bounds__(32) pass_on(const float* peaks, const int* rows, int n, int* token_ids) {
    const int i = int(blockIdx.x) * 32 + int(threadIdx.x);
    if (i < n && rows[i] >= 0) token_ids[i] = int(bits_from_float(peaks[2 * rows[i] + 1]));
}

}  // namespace espalier
