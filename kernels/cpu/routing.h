// One token's experts from a router's logits: what kernels/reference/routing.py says, in its order of sums.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/vector_kernels.h"

namespace espalier {

enum class Gating { kSoftmax, kSigmoid, kSoftmaxOfChosen };

struct Routing {
    Gating gating;
    int64_t n_expert, n_used, n_group, n_group_used;
    bool normalize;
    float scale;
};

// The n highest of scores [n_scores] by falling score, ties by the lower index: indices into best [n].
inline void find_best(const float* scores, int64_t n_scores, int64_t n, int32_t* best) {
    int64_t n_found = 0;
    for (int64_t i = 0; i < n_scores; ++i) {
        if (n_found == n && !(scores[i] > scores[best[n - 1]])) continue;
        int64_t at = n_found < n ? n_found++ : n - 1;
        for (; at > 0 && scores[i] > scores[best[at - 1]]; --at) best[at] = best[at - 1];
        best[at] = int32_t(i);
    }
}

class Router {
public:
    explicit Router(const VectorKernels& vectors) : vectors_(&vectors) {}

    // logits [n_expert], bias [n_expert] or null; experts and weights [n_used]
    void run(const Routing& routing, const float* logits, const float* bias, int32_t* experts, float* weights) {
        if (!all_finite(logits, routing.n_expert)) {
            for (int64_t slot = 0; slot < routing.n_used; ++slot)
                experts[slot] = int32_t(slot), weights[slot] = std::numeric_limits<float>::quiet_NaN();
            return;
        }
        probs_.resize(size_t(routing.n_expert));
        scores_.resize(size_t(routing.n_expert));
        find_probs(routing, logits);
        for (size_t i = 0; i < scores_.size(); ++i) {
            const float score = bias == nullptr ? probs_[i] : probs_[i] + bias[i];
            scores_[i] = std::isnan(score) ? -kInfinity : score;
        }
        if (routing.n_group_used < routing.n_group) leave_best_groups(routing);
        find_best(scores_.data(), routing.n_expert, routing.n_used, experts);
        for (int64_t slot = 0; slot < routing.n_used; ++slot) weights[slot] = probs_[size_t(experts[slot])];
        finish(routing, weights);
    }

private:
    static constexpr float kInfinity = std::numeric_limits<float>::infinity();
    static constexpr float kLeastSum = 1e-20f;  // kernels/expert_ops.py, LEAST_WEIGHT_SUM

    static bool all_finite(const float* x, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
            if (!std::isfinite(x[i])) return false;
        return true;
    }

    void find_probs(const Routing& routing, const float* logits) {
        const int64_t n = routing.n_expert;
        float* probs = probs_.data();
        switch (routing.gating) {
            case Gating::kSoftmax: {
                powers(logits, n, probs);
                const float sum = sum_in_lanes(probs, n);
                for (int64_t i = 0; i < n; ++i) probs[i] = probs[i] / sum;
                return;
            }
            case Gating::kSigmoid:
                for (int64_t i = 0; i < n; ++i) probs[i] = -logits[i];
                vectors_->exp(probs, n, probs);
                for (int64_t i = 0; i < n; ++i) probs[i] = 1.0f / (1.0f + probs[i]);
                return;
            case Gating::kSoftmaxOfChosen:
                std::copy(logits, logits + n, probs);
        }
    }

    // exp(x - the highest x); y may be x.
    void powers(const float* x, int64_t n, float* y) const {
        const float highest = *std::max_element(x, x + n);
        for (int64_t i = 0; i < n; ++i) y[i] = x[i] - highest;
        vectors_->exp(y, n, y);
    }

    static float sum_in_lanes(const float* x, int64_t n) {
        float lanes[16] = {};
        for (int64_t i = 0; i < n; ++i) lanes[i % 16] += x[i];
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) lanes[i] = lanes[i] + lanes[i + half];
        return lanes[0];
    }
    static float sum_in_order(const float* x, int64_t n) {
        float sum = x[0];
        for (int64_t i = 1; i < n; ++i) sum += x[i];
        return sum;
    }

    // The scores of the groups that no expert may come from become -infinity.
    void leave_best_groups(const Routing& routing) {
        const int64_t size = routing.n_expert / routing.n_group;
        group_scores_.resize(size_t(routing.n_group));
        groups_.resize(size_t(routing.n_group_used));
        for (int64_t g = 0; g < routing.n_group; ++g) {
            int32_t two[2];
            const float* scores = scores_.data() + g * size;
            find_best(scores, size, std::min<int64_t>(2, size), two);
            const float score = size == 1 ? scores[0] : scores[two[0]] + scores[two[1]];
            group_scores_[size_t(g)] = std::isnan(score) ? -kInfinity : score;
        }
        find_best(group_scores_.data(), routing.n_group, routing.n_group_used, groups_.data());
        for (int64_t g = 0; g < routing.n_group; ++g)
            if (std::find(groups_.begin(), groups_.end(), int32_t(g)) == groups_.end())
                std::fill_n(scores_.begin() + g * size, size, -kInfinity);
    }

    void finish(const Routing& routing, float* weights) const {
        const int64_t n = routing.n_used;
        if (routing.gating == Gating::kSoftmaxOfChosen) {
            powers(weights, n, weights);
            divide(weights, n, sum_in_order(weights, n));
        }
        if (routing.normalize) divide(weights, n, std::max(sum_in_order(weights, n), kLeastSum));
        for (int64_t i = 0; i < n; ++i) weights[i] = weights[i] * routing.scale;
    }
    static void divide(float* x, int64_t n, float by) {
        for (int64_t i = 0; i < n; ++i) x[i] = x[i] / by;
    }

    const VectorKernels* vectors_;
    std::vector<float> probs_, scores_, group_scores_;
    std::vector<int32_t> groups_;
};

}  // namespace espalier
