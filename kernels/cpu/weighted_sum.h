// The end of a mixture of experts: a token's expert results, weighed and added to its residual.
#pragma once

#include "cpu/simd.h"
#include "cpu/vector_kernels.h"

namespace espalier::ESPALIER_TIER {

static void weighted_sum(const WeightedRows& rows, int64_t n, const float* residual, float* y) {
    for (int64_t i = 0; i < n; i += kLanes) {
        const int lanes = int(n - i < kLanes ? n - i : kLanes);
        F32 sum = splat(0.0f);
        for (int64_t slot = 0; slot < rows.n; ++slot)
            sum = fma(splat(rows.weights[slot]), load_first(rows.values + rows.positions[slot] * n + i, lanes), sum);
        store_first(y + i, add(load_first(residual + i, lanes), sum), lanes);
    }
}

}  // namespace espalier::ESPALIER_TIER
