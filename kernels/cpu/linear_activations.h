// Activations as int8: what kernels.h calls VectorActivations and ColumnActivations, filled in.
// The rounding is quantize_activations32's of common/linear_formula.h, bit for bit.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace espalier::ESPALIER_TIER {

// Tokens that a matmul carries side by side: as many columns as accumulators fit in the tier's registers. The scalar
// tier has no use for many, and each number of columns up to this one is compiled.
#if ESPALIER_TIER_ID == ESPALIER_AVX512_TIER
constexpr int kColumnGroup = 12;
#elif ESPALIER_TIER_ID == ESPALIER_AVX2_TIER
constexpr int kColumnGroup = 4;
#else
constexpr int kColumnGroup = 2;
#endif

// 32-blocks in chain order: chain p holds blocks 2p and 2p + 1 of every 256 columns.
struct ChainOrder {
    int64_t start[5];
};
static inline ChainOrder chain_order(int64_t n_blocks) {
    ChainOrder order{};
    for (int p = 0; p < 4; ++p) {
        const int64_t rest = n_blocks % 8 - 2 * p;
        order.start[p + 1] = order.start[p] + n_blocks / 8 * 2 + (rest < 0 ? 0 : rest > 2 ? 2 : rest);
    }
    return order;
}
static inline int64_t chain_position(const ChainOrder& order, int64_t b) {
    return order.start[(b & 7) >> 1] + 2 * (b >> 3) + (b & 1);
}

struct QuantizedBlock {
    int32_t q[32];
    float dx;
    int32_t sums[2];
};

static inline void quantize_block(const float* x, QuantizedBlock& out) {
    const F32 a = load(x), b = load(x + 16);
    const F32 zero_or_nan = add(sub(a, a), sub(b, b));
    const float amax = reduce_max(max(abs(a), abs(b)));
    const float dx = amax / 127.0f;
    const bool finite = reduce_add(zero_or_nan) == 0.0f;
    out.sums[0] = out.sums[1] = 0;
    if (!finite || dx < 0x1p-126f) {
        for (int j = 0; j < 32; ++j) out.q[j] = 0;
        out.dx = finite ? 0.0f : __builtin_nanf("");
        return;
    }
    store(out.q, round_to_int(div(a, splat(dx))));
    store(out.q + 16, round_to_int(div(b, splat(dx))));
    out.dx = dx;
    for (int j = 0; j < 32; ++j) out.sums[j / 16] += out.q[j];
}

// The chains of a row mean: the same for every row.
struct MeanChains {
    float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    void add(int64_t b, const QuantizedBlock& block) {
        float& a = acc[(b & 7) >> 1];
        a = __builtin_fmaf(static_cast<float>(block.sums[0] + block.sums[1]), block.dx, a);
    }
    float tree() const { return (acc[0] + acc[1]) + (acc[2] + acc[3]); }
};

static void quantize_vector(const float* x, int64_t n_in, VectorActivations& out) {
    QuantizedBlock block;
    MeanChains mean;
    for (int64_t b = 0; b < n_in / 32; ++b) {
        quantize_block(x + 32 * b, block);
        for (int j = 0; j < 32; ++j) {
            out.q[32 * b + j] = static_cast<int8_t>(block.q[j]);
            out.replicated[32 * b + j] = static_cast<int32_t>(0x01010101u * static_cast<uint8_t>(block.q[j]));
        }
        out.dx[b] = block.dx;
        out.sums[2 * b] = block.sums[0];
        out.sums[2 * b + 1] = block.sums[1];
        mean.add(b, block);
    }
    out.mean_tree = mean.tree();
}

// Column c of a group's block (kernels.h: the order of its dwords).
static inline void put_column(const QuantizedBlock& block, int32_t* dwords, int n, int c) {
    for (int v = 0; v < 8; ++v) {
        uint32_t four = 0;
        for (int i = 0; i < 4; ++i) four |= static_cast<uint32_t>(block.q[4 * v + i] & 255) << (8 * i);
        dwords[v * n + c] = static_cast<int32_t>(four);
    }
    float* dx = reinterpret_cast<float*>(dwords + 8 * n);
    int32_t* starts = dwords + 9 * n;
    float* sum = reinterpret_cast<float*>(dwords + 12 * n);
    dx[c] = block.dx;
    starts[c] = -128 * (block.sums[0] + block.sums[1]);
    starts[n + c] = -128 * block.sums[0];
    starts[2 * n + c] = -128 * block.sums[1];
    sum[c] = static_cast<float>(block.sums[0] + block.sums[1]);
}

static void quantize_columns(const float* x, int64_t n_in, ColumnActivations& out) {
    const int64_t n_blocks = n_in / 32;
    const ChainOrder order = chain_order(n_blocks);
    const int n = out.n_columns;
    int32_t* dwords = reinterpret_cast<int32_t*>(out.blocks);
    QuantizedBlock block;
    for (int c = 0; c < n; ++c) {
        MeanChains mean;
        for (int64_t b = 0; b < n_blocks; ++b) {
            quantize_block(x + c * n_in + 32 * b, block);
            put_column(block, dwords + chain_position(order, b) * kColumnDwords * n, n, c);
            mean.add(b, block);
        }
        out.mean_trees[c] = mean.tree();
    }
}

}  // namespace espalier::ESPALIER_TIER
