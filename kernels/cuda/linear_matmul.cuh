// Linear for many tokens over any weights, on the int8 tensor cores: y[t] = W x[t].
//   parameters  linear_parts.cuh
//   grid        (sum over parts of ceil(n_out / 32), ceil(n_tokens / 64))   block 256
// A block computes 32 rows x 64 tokens. For each 256 columns its threads decode one 32-block of weights each into shared
// memory and fetch the tokens' int8 activations; then eight warps multiply, each 16 rows x 16 tokens. The exact int32 dots
// of one 32-block enter the four chains of each output at once, so the bits are those of every other linear kernel.
// Bound by the fused multiply-adds of the chains (three instructions an output and 32 columns) beside the decoding, which
// is shared by 64 tokens.
#pragma once

#include "cuda/packed_block.cuh"

namespace espalier {

constexpr int kMatmulThreads = 256;
constexpr int kMatmulRows = 32;
constexpr int kMatmulTokens = 64;
constexpr int kStepBlocks = 8;             // 32-blocks of one step
constexpr int kStepWords = 8 * kStepBlocks + 4;  // of one row in shared memory; the four keep lanes on different banks
constexpr int kWarpTokenTiles = 2;         // of eight tokens

template <class T>
struct MatmulShared {
    alignas(16) uint32_t low[kMatmulRows][kStepWords];
    alignas(16) uint32_t high[kWide<T> ? kMatmulRows : 1][kStepWords];
    alignas(16) uint32_t q[kMatmulTokens][kStepWords];
    float scale[kStepBlocks][kMatmulRows], minus_dmin[T::kHasMin ? kStepBlocks : 1][kMatmulRows];
    int16_t scale_lo[kTwoScales<T> ? kStepBlocks : 1][kMatmulRows], scale_hi[kTwoScales<T> ? kStepBlocks : 1][kMatmulRows];
    int16_t min_lo[T::kHasMin ? kStepBlocks : 1][kMatmulRows], min_hi[T::kHasMin ? kStepBlocks : 1][kMatmulRows];
    float dx[kStepBlocks][kMatmulTokens];
    int sums[T::kHasMin || T::kHasMean ? kStepBlocks : 1][kMatmulTokens];
};

// Thread i decodes block i % 8 of row i / 8; rows and columns beyond the matrix become zeros.
template <class Weights>
ESP_FN void fetch_weights(MatmulShared<typename Weights::Type>& s, const Weights& weights, const Part& part, int first_b,
                          int n_blocks) {
    using T = typename Weights::Type;
    const int r = threadIdx.x / kStepBlocks, j = threadIdx.x % kStepBlocks;
    Block32 block{};
    if (part.first_row + r < part.n_out && first_b + j < n_blocks)
        weights.decode(part.first_row + r, first_b + j, block);
    PackedBlock<T> packed;
    packed.pack(block);
    const BlockFactors f = block_factors<T>(block);
    uint4* low = reinterpret_cast<uint4*>(&s.low[r][8 * j]);
    low[0] = make_uint4(packed.low[0], packed.low[1], packed.low[2], packed.low[3]);
    low[1] = make_uint4(packed.low[4], packed.low[5], packed.low[6], packed.low[7]);
    if constexpr (kWide<T>) {
        uint4* high = reinterpret_cast<uint4*>(&s.high[r][8 * j]);
        high[0] = make_uint4(packed.high[0], packed.high[1], packed.high[2], packed.high[3]);
        high[1] = make_uint4(packed.high[4], packed.high[5], packed.high[6], packed.high[7]);
    }
    s.scale[j][r] = f.scale;
    if constexpr (kTwoScales<T>) s.scale_lo[j][r] = int16_t(f.scale_lo), s.scale_hi[j][r] = int16_t(f.scale_hi);
    if constexpr (T::kHasMin) {
        s.min_lo[j][r] = int16_t(f.min_lo), s.min_hi[j][r] = int16_t(f.min_hi);
        s.minus_dmin[j][r] = f.minus_dmin;
    }
}

template <class T>
ESP_FN void fetch_activations(MatmulShared<T>& s, const Activations& x, int first_token, int first_b) {
    const int n_blocks = x.n_blocks();
    for (int i = threadIdx.x; i < kMatmulTokens * 2 * kStepBlocks; i += kMatmulThreads) {
        const int token = i / (2 * kStepBlocks), piece = i % (2 * kStepBlocks), b = first_b + piece / 2;
        const bool there = first_token + token < x.n_tokens && b < n_blocks;
        uint4 words = make_uint4(0, 0, 0, 0);
        if (there) words = reinterpret_cast<const uint4*>(x.block_q(first_token + token, b))[piece & 1];
        reinterpret_cast<uint4*>(s.q[token])[piece] = words;
    }
    for (int i = threadIdx.x; i < kMatmulTokens * kStepBlocks; i += kMatmulThreads) {
        const int token = i / kStepBlocks, j = i % kStepBlocks;
        const bool there = first_token + token < x.n_tokens && first_b + j < n_blocks;
        s.dx[j][token] = there ? x.block_dx(first_token + token, first_b + j) : 0.0f;
        if constexpr (T::kHasMin || T::kHasMean)
            s.sums[j][token] = there ? x.block_sums(first_token + token, first_b + j) : 0;
    }
}

// What one warp keeps: for each token tile the four outputs of a lane, (row g, token 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1), in four chains.
struct MatmulChains {
    float acc[kWarpTokenTiles][4][4];  // [tile][output][chain]
    float mean_acc[kWarpTokenTiles][2][4];  // [tile][token][chain], kHasMean
};

// The A fragment of a 32-block of 16 rows, columns as they come.
ESP_FN void load_rows(const uint32_t (*rows)[kStepWords], int g, int t, int j, unsigned (&a)[4]) {
    a[0] = rows[g][8 * j + t], a[1] = rows[g + 8][8 * j + t];
    a[2] = rows[g][8 * j + 4 + t], a[3] = rows[g + 8][8 * j + 4 + t];
}

// The exact dots of a 32-block of 16 rows and eight tokens; both scales of a block enter in int32.
template <class T>
ESP_FN void block_dots(const MatmulShared<T>& s, int row, int token, int g, int t, int j, int (&dots)[4]) {
    unsigned a[4];
    const unsigned b[2] = {s.q[token + g][8 * j + t], s.q[token + g][8 * j + 4 + t]};
    load_rows(&s.low[row], g, t, j, a);
    if constexpr (kTwoScales<T>) {
        int lo[4] = {0, 0, 0, 0}, hi[4] = {0, 0, 0, 0};
        const unsigned first[2] = {b[0], 0}, second[2] = {0, b[1]};
        mma_s8s8(lo, a, first);
        mma_s8s8(hi, a, second);
        const int lo_scale[2] = {s.scale_lo[j][row + g], s.scale_lo[j][row + g + 8]};
        const int hi_scale[2] = {s.scale_hi[j][row + g], s.scale_hi[j][row + g + 8]};
#pragma unroll
        for (int o = 0; o < 4; ++o) dots[o] = lo_scale[o >> 1] * lo[o] + hi_scale[o >> 1] * hi[o];
    } else if constexpr (kWide<T>) {
        int low[4] = {0, 0, 0, 0}, high[4] = {0, 0, 0, 0};
        mma_u8s8(low, a, b);
        load_rows(&s.high[row], g, t, j, a);
        mma_s8s8(high, a, b);
#pragma unroll
        for (int o = 0; o < 4; ++o) dots[o] = low[o] + 256 * high[o];
    } else {
        dots[0] = dots[1] = dots[2] = dots[3] = 0;
        mma_s8s8(dots, a, b);
    }
}

template <class T>
ESP_FN void multiply_block(const MatmulShared<T>& s, int row, int first_token, int g, int t, int j, MatmulChains& chains) {
    const int chain = j >> 1;
    const float scale[2] = {s.scale[j][row + g], s.scale[j][row + g + 8]};
#pragma unroll
    for (int tile = 0; tile < kWarpTokenTiles; ++tile) {
        const int token = first_token + 8 * tile;
        int dots[4];
        block_dots(s, row, token, g, t, j, dots);
        const float dx[2] = {s.dx[j][token + 2 * t], s.dx[j][token + 2 * t + 1]};
#pragma unroll
        for (int o = 0; o < 4; ++o) {
            float& acc = chains.acc[tile][o][chain];
            acc = fma_f32(float(dots[o]), dx[o & 1] * scale[o >> 1], acc);
            if constexpr (T::kHasMin) {
                const int r = row + g + 8 * (o >> 1);
                const int sums = s.sums[j][token + 2 * t + (o & 1)];
                const int minimum = s.min_lo[j][r] * sum_of_low(sums) + s.min_hi[j][r] * sum_of_high(sums);
                acc = fma_f32(float(minimum), dx[o & 1] * s.minus_dmin[j][r], acc);
            }
        }
        if constexpr (T::kHasMean) {
#pragma unroll
            for (int o = 0; o < 2; ++o) {
                float& acc = chains.mean_acc[tile][o][chain];
                acc = fma_f32(float(sum_of_all(s.sums[j][token + 2 * t + o])), dx[o], acc);
            }
        }
    }
}

ESP_FN float tree_of(const float (&acc)[4]) { return (acc[0] + acc[1]) + (acc[2] + acc[3]); }

template <class Weights>
ESP_FN void linear_matmul_rows(const Part& part, const Activations& x, int first_token) {
    using T = typename Weights::Type;
    __shared__ MatmulShared<T> shared;
    const Weights weights(part.weights, part.n_out, x.n_in);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int row = 16 * (warp & 1), token = 8 * kWarpTokenTiles * (warp >> 1);  // of this warp, in the block
    const bool busy = first_token + token < x.n_tokens;
    MatmulChains chains{};
    for (int first_b = 0; first_b < x.n_blocks(); first_b += kStepBlocks) {
        fetch_weights(shared, weights, part, first_b, x.n_blocks());
        fetch_activations(shared, x, first_token, first_b);
        block_sync();
        if (busy) {
#pragma unroll
            for (int j = 0; j < kStepBlocks; ++j) multiply_block(shared, row, token, g, t, j, chains);
        }
        block_sync();
    }
#pragma unroll
    for (int tile = 0; tile < kWarpTokenTiles; ++tile)
#pragma unroll
        for (int o = 0; o < 4; ++o) {
            const int r = part.first_row + row + g + 8 * (o >> 1), n = first_token + token + 8 * tile + 2 * t + (o & 1);
            if (r >= part.n_out || n >= x.n_tokens) continue;
            const float mean_tree = T::kHasMean ? tree_of(chains.mean_acc[tile][o & 1]) : 0.0f;
            part.store(n, r, finish_row<T>(weights.row_d(r), weights.row_mean(r), tree_of(chains.acc[tile][o]), mean_tree));
        }
}

}  // namespace espalier
