// Activations as int8: what kernels.h calls VectorActivations and ColumnActivations, filled in.
// The rounding is that of common/linear_formula.h, quantize_activations32 and rest_of_activations32, bit for bit.
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
static_assert(kColumnGroup % 2 == 0, "a group holds both planes of a token");

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
    I32 q[2];  // of columns 0..15 and 16..31
    float dx;
    int32_t sums[2];
};

static inline void quantize_block(const float* x, QuantizedBlock& out) {
    const F32 a = load(x), b = load(x + 16);
    const F32 zero_or_nan = add(sub(a, a), sub(b, b));
    const float amax = reduce_max(max(abs(a), abs(b)));
    const float dx = amax / 127.0f;
    const bool finite = reduce_add(zero_or_nan) == 0.0f;
    if (!finite || dx < 0x1p-126f) {
        out = {{splat(0), splat(0)}, finite ? 0.0f : __builtin_nanf(""), {0, 0}};
        return;
    }
    out.q[0] = round_to_int(div(a, splat(dx)));
    out.q[1] = round_to_int(div(b, splat(dx)));
    out.dx = dx;
    for (int half = 0; half < 2; ++half) out.sums[half] = reduce_add(out.q[half]);
}

// What the int8 form leaves of x [32].
static inline void rest_of_block(const float* x, const QuantizedBlock& block, float* rest) {
    for (int half = 0; half < 2; ++half) {
        const F32 minus_q = to_float(sub(splat(0), block.q[half]));
        store(rest + 16 * half, fma(minus_q, splat(block.dx), load(x + 16 * half)));
    }
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

static inline void put_block(const QuantizedBlock& block, int64_t b, VectorActivations& out) {
    for (int half = 0; half < 2; ++half) {
        const int64_t at = 32 * b + 16 * half;
        store_low_bytes(out.q + at, block.q[half]);
        store(out.replicated + at, mul(bit_and(block.q[half], splat(255)), splat(0x01010101)));
        out.sums[2 * b + half] = block.sums[half];
    }
    out.dx[b] = block.dx;
}

// out [kPlanes]
template <int kPlanes>
static void quantize_vector(const float* x, int64_t n_in, VectorActivations* out) {
    QuantizedBlock block;
    MeanChains mean[kPlanes];
    alignas(64) float rest[32];
    for (int64_t b = 0; b < n_in / 32; ++b) {
        quantize_block(x + 32 * b, block);
        put_block(block, b, out[0]);
        mean[0].add(b, block);
        if constexpr (kPlanes == 2) {
            rest_of_block(x + 32 * b, block, rest);
            quantize_block(rest, block);
            put_block(block, b, out[1]);
            mean[1].add(b, block);
        }
    }
    for (int plane = 0; plane < kPlanes; ++plane) out[plane].mean_tree = mean[plane].tree();
}

// Column c of a group's block (kernels.h: the order of its dwords).
static inline void put_column(const QuantizedBlock& block, int32_t* dwords, int n, int c) {
    alignas(32) int8_t q[32];
    int32_t four[8];
    store_low_bytes(q, block.q[0]);
    store_low_bytes(q + 16, block.q[1]);
    __builtin_memcpy(four, q, 32);
    for (int v = 0; v < 8; ++v) dwords[v * n + c] = four[v];
    float* dx = reinterpret_cast<float*>(dwords + 8 * n);
    int32_t* starts = dwords + 9 * n;
    float* sum = reinterpret_cast<float*>(dwords + 12 * n);
    dx[c] = block.dx;
    starts[c] = -128 * (block.sums[0] + block.sums[1]);
    starts[n + c] = -128 * block.sums[0];
    starts[2 * n + c] = -128 * block.sums[1];
    sum[c] = static_cast<float>(block.sums[0] + block.sums[1]);
}

// Ahead of a row's quantization; the rows lie one behind the other.
constexpr int kPrefetchFloats = 512;

// A token's kPlanes columns beside each other.
template <int kPlanes>
static void quantize_columns(const float* x, int64_t n_in, ColumnActivations& out) {
    const int64_t n_blocks = n_in / 32;
    const ChainOrder order = chain_order(n_blocks);
    const int n = out.n_columns;
    QuantizedBlock block;
    alignas(64) float rest[32];
    for (int c = 0; c < n; c += kPlanes, x += n_in) {
        MeanChains mean[kPlanes];
        for (int64_t b = 0; b < n_blocks; ++b) {
            const float* from = x + 32 * b;
            int32_t* dwords = reinterpret_cast<int32_t*>(out.blocks) + chain_position(order, b) * kColumnDwords * n;
            for (int line = 0; line < 32; line += 16) prefetch(from + kPrefetchFloats + line);
            quantize_block(from, block);
            put_column(block, dwords, n, c);
            mean[0].add(b, block);
            if constexpr (kPlanes == 2) {
                rest_of_block(from, block, rest);
                quantize_block(rest, block);
                put_column(block, dwords, n, c + 1);
                mean[1].add(b, block);
            }
        }
        for (int plane = 0; plane < kPlanes; ++plane) out.mean_trees[c + plane] = mean[plane].tree();
    }
}

}  // namespace espalier::ESPALIER_TIER
