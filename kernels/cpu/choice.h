// One row of logits -> one token: kernels/reference/choice.py says which, bit for bit.
//
// What the steps leave of a row are always the highest of its keys (choice.h, key_of). `Survivors` has them as a list once a
// step has left out any. top_k and top_p find the end of their set by one walk that sorts the row into bins, and then look at
// the keys of the bins that matter. A draw walks over the row once (choice_scan.h): a block of tokens is looked at only where
// the bound on a sum of score and noise reaches the best sum so far.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/choice.h"
#include "cpu/vector_kernels.h"

namespace espalier {

// The changes and the mask of one row, and the token that no change counts yet; -1: there is none.
struct RowChanges {
    const Change* changes;
    int64_t n_changes;
    int unread;
    const int32_t* mask;  // null: every token is allowed
    bool any() const { return n_changes > 0 || unread >= 0 || mask != nullptr; }
};

// Where the results of one row go. logprobs [kLogprobColumns], or null.
struct ChosenRow {
    float* token;  // [2]: the highest logit, the id's bits
    float* logprobs;
};

// Chooses on one thread; keeps its scratch memory.
class RowChooser {
public:
    explicit RowChooser(const VectorKernels& kernels) : kernels_(kernels) {}

    void run(const float* logits, int64_t n, const ChoiceRow& row, const RowChanges& changes, const ChosenRow& out) {
        n_ = n;
        x_ = changes.any() ? changed_copy(logits, row, changes) : logits;
        int best;
        find_highest(best);
        const int id = is_drawn(row, highest_) ? drawn(row, best) : best;
        out.token[0] = highest_;
        out.token[1] = float_from_bits(uint32_t(id));
        if (out.logprobs == nullptr) return;
        x_ = logits;
        find_highest(best);
        give_logprobs(row, id, out.logprobs);
    }

private:
    const float* changed_copy(const float* logits, const ChoiceRow& row, const RowChanges& changes) {
        copy_.assign(logits, logits + n_);
        bool met = false;
        for (int64_t i = 0; i < changes.n_changes; ++i) {
            Change change = changes.changes[i];
            if (change.token_id == changes.unread) change.n_answered += 1, change.is_seen = 1, met = true;
            copy_[size_t(change.token_id)] = changed(logits[change.token_id], change, row);
        }
        if (changes.unread >= 0 && !met)
            copy_[size_t(changes.unread)] = changed(logits[changes.unread], {changes.unread, 1, 1, -0.0f}, row);
        if (changes.mask != nullptr) forbid(changes.mask);
        return copy_.data();
    }

    void forbid(const int32_t* mask) {
        for (int64_t first = 0; first < n_; first += 32) {
            if (mask[first / 32] == -1) continue;
            for (int64_t id = first; id < std::min(first + 32, n_); ++id)
                if (!is_allowed(mask, int(id))) copy_[size_t(id)] = -INFINITY;
        }
    }

    // highest_ and its id, as numpy.argmax has them: the first NaN, or the first of the highest.
    void find_highest(int& best) {
        highest_ = kernels_.highest(x_, n_);
        if (highest_ != highest_) {
            best = int(std::max_element(x_, x_ + n_, [](float a, float b) { return ordered_bits(a) < ordered_bits(b); }) - x_);
        } else {
            best = int(kernels_.next_block(x_, n_, 0, highest_));
            while (x_[best] != highest_) ++best;
        }
        highest_ = x_[best];
    }

    // ---- What the steps leave. No key of the row is NaN, and its highest is finite.

    struct Survivors {
        bool are_all = true;
        std::vector<uint64_t> keys;  // else these, in no order
    };

    void narrow(const ChoiceRow& row) {
        survivors_.are_all = true;
        double temperature = 1.0;
        float rate = 1.0f;
        for (int i = 0; i < kChoiceSteps; ++i) switch (row.order >> 2 * i & 3) {
            case kTemperatureStep: temperature = row.temperature, rate = row.rate; break;
            case kTopKStep: if (row.top_k > 0) keep_top_k(row.top_k); break;
            case kTopPStep: if (row.top_p < 1.0) keep_top_p(row.top_p, rate); break;
            case kMinPStep: if (row.floor > -INFINITY) keep_above(least_key_above(row.floor, highest_, temperature)); break;
        }
    }

    void keep_top_k(uint32_t k) {
        if (k >= (survivors_.are_all ? uint64_t(n_) : survivors_.keys.size())) return;
        if (survivors_.are_all) list_bins_until(1.0f, false, double(k));
        std::vector<uint64_t>& keys = survivors_.keys;
        std::nth_element(keys.begin(), keys.begin() + k - 1, keys.end(), std::greater<uint64_t>());
        keys.resize(k);
    }

    void keep_top_p(double top_p, float rate) {
        std::vector<uint64_t>& keys = survivors_.keys;
        double target = 0.0;
        if (survivors_.are_all) target = list_bins_until(rate, true, top_p);
        else target = top_p * double(mass(keys.begin(), keys.end(), rate));
        // Halves of what may hold the last key that is needed; those before `first` are needed, with a mass of `above`.
        uint64_t above = 0;
        auto first = keys.begin(), last = keys.end();
        while (last - first > 1) {
            const auto middle = first + (last - first) / 2;
            std::nth_element(first, middle, last, std::greater<uint64_t>());
            const uint64_t with = above + mass(first, middle, rate);
            if (double(with) >= target) last = middle;
            else above = with, first = middle;
        }
        keys.erase(last, keys.end());
    }

    void keep_above(uint64_t least) {
        std::vector<uint64_t>& keys = survivors_.keys;
        if (survivors_.are_all) list_from(float_from_order(uint32_t(least >> 32)));
        else keys.erase(std::remove_if(keys.begin(), keys.end(), [least](uint64_t key) { return key < least; }), keys.end());
    }

    using Keys = std::vector<uint64_t>::iterator;
    uint64_t mass(Keys first, Keys last, float rate) const {
        uint64_t sum = 0;
        for (; first != last; ++first) sum += mass_of(x_[~uint32_t(*first)] - highest_, rate);
        return sum;
    }

    // Lists the values of the highest bins that hold `share` of the mass together, or as many values as it says. Returns how
    // much that is.
    double list_bins_until(float rate, bool masses, double share) {
        bins_.assign(size_t(kBins), 0);
        kernels_.add_to_bins(x_, n_, highest_, rate, masses, bins_.data());
        uint64_t sum = 0;
        for (const uint64_t amount : bins_) sum += amount;
        const double target = masses ? share * double(sum) : share;
        int bin = 0;
        for (uint64_t above = bins_[0]; double(above) < target; above += bins_[size_t(bin)]) ++bin;
        list_from(least_of_bin(bin, rate));
        return target;
    }

    // The least float that add_to_bins puts into this bin or one of higher values.
    float least_of_bin(int bin, float rate) const {
        uint32_t low = ordered_bits(-INFINITY), high = ordered_bits(highest_);
        while (low < high) {
            const uint32_t middle = low + (high - low) / 2;
            if (bin_of(float_from_order(middle), rate) <= bin) high = middle;
            else low = middle + 1;
        }
        return float_from_order(low);
    }

    int bin_of(float value, float rate) const {
        const float y = (value - highest_) * rate * kLog2E;
        return y >= kLeastPower ? int(round_even(y * -kBinsPerPower)) : kMasslessBin;
    }

    void list_from(float least) {
        survivors_.are_all = false;
        survivors_.keys.clear();
        for_blocks(least, [&](int64_t id) {
            if (x_[id] >= least) survivors_.keys.push_back(key_of(x_[id], int(id)));
        });
    }

    template <class F>
    void for_blocks(float least, F f) {
        for (int64_t first = 0; (first = kernels_.next_block(x_, n_, first, least)) < n_; first += kChoiceBlock)
            for (int64_t id = first; id < std::min(first + kChoiceBlock, n_); ++id) f(id);
    }

    // ---- The draw.

    struct Best {
        double sum;
        int id;
        void consider(double other, int other_id) {
            if (other > sum || (other == sum && other_id < id)) sum = other, id = other_id;
        }
    };

    double sum_at(const ChoiceRow& row, int id, uint32_t word) const {
        return score_of(x_[id], highest_, row.temperature) + gumbel(word);
    }

    int drawn(const ChoiceRow& row, int best_id) {
        narrow(row);
        uint32_t words[4];
        philox(uint32_t(best_id / 4), row.position, row.seed, words);
        Best best{sum_at(row, best_id, words[best_id % 4]), best_id};
        const bool few = !survivors_.are_all && int64_t(survivors_.keys.size()) < n_ / kScanWorth;
        if (few) draw_from_list(row, best);
        else draw_from_row(row, best);
        return best.id;
    }

    void draw_from_list(const ChoiceRow& row, Best& best) const {
        for (const uint64_t key : survivors_.keys) {
            const int id = int(~uint32_t(key));
            uint32_t words[4];
            philox(uint32_t(id / 4), row.position, row.seed, words);
            best.consider(sum_at(row, id, words[id % 4]), id);
        }
    }

    void draw_from_row(const ChoiceRow& row, Best& best) const {
        const uint64_t least =
            survivors_.are_all ? 0 : *std::min_element(survivors_.keys.begin(), survivors_.keys.end());
        // A float cannot tell that a temperature beyond 1e30 brings what is infinitely far below near.
        const float rate = row.temperature > 1e30 ? 0.0f : row.rate;
        const NoisyRow noisy{x_, n_, highest_, rate, row.position, row.seed};
        uint32_t words[kChoiceBlock];
        for (int64_t first = 0; (first = kernels_.next_draws(noisy, first, best.sum, words)) < n_; first += kChoiceBlock) {
            for (int64_t id = first; id < std::min(first + kChoiceBlock, n_); ++id) {
                const uint32_t word = words[id - first];
                if (key_of(x_[id], int(id)) < least || is_below(row, x_[id], word, best.sum)) continue;
                best.consider(sum_at(row, int(id), word), int(id));
            }
        }
    }

    // Whether score and noise cannot reach `sum`, without a logarithm: the noise is at most -log(1 - u), and 1 - u at least half
    // the power of two of ~word, in units of 2^-32.
    static constexpr double kLn2 = 0.693147180559946;
    bool is_below(const ChoiceRow& row, float value, uint32_t word, double sum) const {
        const int zeros = ~word == 0 ? 32 : __builtin_clz(~word);
        return score_of(value, highest_, row.temperature) + (zeros + 1) * kLn2 + 1e-9 < sum;
    }

    // ---- Log-probabilities of a row as the model gave it.

    void give_logprobs(const ChoiceRow& row, int id, float* out) {
        std::fill_n(out, kLogprobColumns, NAN);
        std::fill_n(out + 1, kMaxLogprobs, float_from_bits(~0u));  // the id -1
        const int64_t n_top = std::min<int64_t>(std::min<int64_t>(row.n_top_logprobs, kMaxLogprobs), n_);
        if (highest_ - highest_ != 0.0f || (n_top == 0 && !row.wants_logprob)) return;
        bins_.assign(size_t(kBins), 0);
        kernels_.add_to_bins(x_, n_, highest_, 1.0f, true, bins_.data());
        uint64_t sum = 0;
        for (const uint64_t amount : bins_) sum += amount;
        const double log_sum = log_of_sum(sum);
        if (row.wants_logprob) out[0] = logprob_of(x_[id], highest_, log_sum);
        if (n_top > 0) give_top(n_top, log_sum, out);
    }

    void give_top(int64_t n_top, double log_sum, float* out) {
        if (n_top < n_) list_bins_until(1.0f, false, double(n_top));
        else list_from(-INFINITY);
        std::vector<uint64_t>& keys = survivors_.keys;
        std::partial_sort(keys.begin(), keys.begin() + n_top, keys.end(), std::greater<uint64_t>());
        for (int64_t i = 0; i < n_top; ++i) {
            const uint32_t id = ~uint32_t(keys[size_t(i)]);
            out[1 + i] = float_from_bits(id);
            out[1 + kMaxLogprobs + i] = logprob_of(x_[id], highest_, log_sum);
        }
    }

    static constexpr int64_t kScanWorth = 32;  // a scan costs as much as this part of a row's tokens one by one

    const VectorKernels& kernels_;
    const float* x_ = nullptr;  // [n_] the row that is looked at
    int64_t n_ = 0;
    float highest_ = 0.0f;
    Survivors survivors_;
    std::vector<float> copy_;
    std::vector<uint64_t> bins_;
};

}  // namespace espalier
