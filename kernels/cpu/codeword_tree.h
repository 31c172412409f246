// Exact search for the codeword nearest to a group of weights: a k-d tree over all codewords of a trellis.
//
// The distance is sum of w_i (t_i - v_i)^2 with weights of its own for every query, so no list of neighbours made
// beforehand can be exact. A tree can: a cell is left out only if the weighted distance to its box is larger than
// the best found. On Gaussian targets that leaves about one codeword in a hundred to look at.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/trellis.h"

namespace espalier {

// kDims weights a codeword, 2^kIndexBits codewords.
template <class Trellis, int kDims, int kIndexBits>
class CodewordTree {
public:
    static constexpr int kCodewords = 1 << kIndexBits;

    explicit CodewordTree(uint32_t offset) : points_(kCodewords), nodes_(kLeaves), leaves_(kLeaves) {
        for (int index = 0; index < kCodewords; ++index) {
            points_[index].index = index;
            generate<Trellis>(uint32_t(index) + offset, kDims, points_[index].values);
        }
        split(1, 0, kCodewords);
        points_.clear();
    }

    // The index of the nearest codeword; of equally near ones the lowest. target and weight [kDims], weight >= 0.
    int nearest(const float* target, const float* weight) const {
        Query query{target, weight, {}, std::numeric_limits<float>::infinity(), 0};
        descend(1, 0.0f, query);
        return query.index;
    }

private:
    static constexpr int kLeafPoints = 16;
    static constexpr int kLeaves = kCodewords / kLeafPoints;
    // Bounds are rounded sums: a cell this close to the best is still looked at.
    static constexpr float kSlack = 0.9999f;

    struct Point {
        int16_t values[kDims];
        int index;
    };
    struct Node {
        int dim;
        float at;  // left values are at most this, right values at least
    };
    struct Leaf {
        float values[kDims][kLeafPoints];
        int index[kLeafPoints];
    };
    struct Query {
        const float *target, *weight;
        float beyond[kDims];  // weighted squared distance to the cell, by dimension
        float best;
        int index;
    };

    // Nodes are numbered as in a heap, 1 the root; those from kLeaves on are leaves.
    void split(int node, int first, int last) {
        if (node >= kLeaves) return fill(leaves_[node - kLeaves], first);
        const int dim = widest(first, last), middle = (first + last) / 2;
        std::nth_element(points_.begin() + first, points_.begin() + middle, points_.begin() + last,
                         [dim](const Point& a, const Point& b) {
                             return a.values[dim] != b.values[dim] ? a.values[dim] < b.values[dim] : a.index < b.index;
                         });
        nodes_[node] = {dim, float(points_[middle].values[dim])};
        split(2 * node, first, middle);
        split(2 * node + 1, middle, last);
    }

    int widest(int first, int last) const {
        int best = 0, best_width = -1;
        for (int dim = 0; dim < kDims; ++dim) {
            const auto less = [dim](const Point& a, const Point& b) { return a.values[dim] < b.values[dim]; };
            const auto ends = std::minmax_element(points_.begin() + first, points_.begin() + last, less);
            const int width = ends.second->values[dim] - ends.first->values[dim];
            if (width > best_width) best = dim, best_width = width;
        }
        return best;
    }

    void fill(Leaf& leaf, int first) const {
        for (int i = 0; i < kLeafPoints; ++i) {
            for (int dim = 0; dim < kDims; ++dim) leaf.values[dim][i] = points_[first + i].values[dim];
            leaf.index[i] = points_[first + i].index;
        }
    }

    void descend(int node, float bound, Query& query) const {
        if (node >= kLeaves) return scan(leaves_[node - kLeaves], query);
        const auto [dim, at] = nodes_[node];
        const float apart = query.target[dim] - at;
        const int near = 2 * node + (apart >= 0.0f);
        descend(near, bound, query);
        const float before = query.beyond[dim], beyond = query.weight[dim] * apart * apart;
        const float far_bound = bound - before + beyond;
        if (far_bound * kSlack > query.best) return;
        query.beyond[dim] = beyond;
        descend(near ^ 1, far_bound, query);
        query.beyond[dim] = before;
    }

    static void scan(const Leaf& leaf, Query& query) {
        float distance[kLeafPoints] = {};
        for (int dim = 0; dim < kDims; ++dim) {
            for (int i = 0; i < kLeafPoints; ++i) {
                const float apart = query.target[dim] - leaf.values[dim][i];
                distance[i] += query.weight[dim] * apart * apart;
            }
        }
        for (int i = 0; i < kLeafPoints; ++i) {
            const bool nearer = distance[i] < query.best || (distance[i] == query.best && leaf.index[i] < query.index);
            if (nearer) query.best = distance[i], query.index = leaf.index[i];
        }
    }

    std::vector<Point> points_;  // while the tree is built
    std::vector<Node> nodes_;
    std::vector<Leaf> leaves_;
};

using TreeIQ4KT = CodewordTree<IntegerTrellis, 4, 15>;

// The trees of the two offsets, made on first use.
inline const TreeIQ4KT& iq4_kt_tree(bool high_offset) {
    static const TreeIQ4KT low(kTrellisOffset), high(kTrellisOffsetHigh);
    return high_offset ? high : low;
}

}  // namespace espalier
