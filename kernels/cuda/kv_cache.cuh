// One layer's paged keys and values, and where a head's lie inside a block of block_size positions. head_dim is even.
//
// Neighbouring threads read neighbouring pairs of dimensions: keys of one pair by position, values of one position by pair.
//   f16    keys [head_dim / 2][block_size][2] f16         values [block_size][head_dim] f16
//   q8_0   keys [head_dim / 2][block_size][2] int8        values [block_size][head_dim] int8
//          and then scales [n_scales][block_size] f16     and then scales [block_size][n_scales] f16
// ESP_KV_Q8 chooses q8_0 (common/kv_q8.h has its rule). Attention computes with code * scale, which is exact.
#pragma once

#include "common/kv_q8.h"
#include "cuda/intrinsics.cuh"

namespace espalier {

struct Cache {
    uint8_t *k, *v;  // [n_blocks, n_head_kv, head_bytes()]
    int n_head_kv, head_dim, block_size;

    ESP_FN int n_scales() const { return int(kv_scales(head_dim)); }
    ESP_FN int64_t head_bytes() const {
#ifdef ESP_KV_Q8
        return int64_t(block_size) * (head_dim + 2 * n_scales());
#else
        return int64_t(block_size) * 2 * head_dim;
#endif
    }
    ESP_FN uint8_t* keys(int64_t block, int head) const { return k + (block * n_head_kv + head) * head_bytes(); }
    ESP_FN uint8_t* values(int64_t block, int head) const { return v + (block * n_head_kv + head) * head_bytes(); }
    // q8_0: the scales after a head's keys or values.
    ESP_FN uint16_t* scales(uint8_t* codes) const { return reinterpret_cast<uint16_t*>(codes + int64_t(head_dim) * block_size); }
};

#ifdef ESP_KV_Q8

// A pair of codes times their scale.
ESP_FN float2 scaled_pair(uint16_t codes, float scale) {
    return make_float2(float(int8_t(codes)) * scale, float(int8_t(codes >> 8)) * scale);
}

// The key of one position.
struct KeyReader {
    const uint16_t *codes, *scales;
    int block_size;

    ESP_FN KeyReader(const Cache& cache, int64_t block, int head, int offset)
        : codes(reinterpret_cast<const uint16_t*>(cache.keys(block, head)) + offset),
          scales(cache.scales(cache.keys(block, head)) + offset),
          block_size(cache.block_size) {}
    // Of dimensions 32 * group and on.
    ESP_FN float scale(int group) const { return f16_value(scales[group * block_size]); }
    ESP_FN float2 pair(int pair, float scale) const { return scaled_pair(codes[int64_t(pair) * block_size], scale); }
};

// One pair of dimensions of the values, position by position.
struct ValueReader {
    const uint16_t *codes, *scales;
    int n_pairs, n_scales;

    ESP_FN ValueReader(const Cache& cache, int64_t block, int head, int offset, int pair)
        : codes(reinterpret_cast<const uint16_t*>(cache.values(block, head)) + int64_t(offset) * (cache.head_dim / 2) + pair),
          scales(cache.scales(cache.values(block, head)) + offset * cache.n_scales() + 2 * pair / kKvScaleDims),
          n_pairs(cache.head_dim / 2),
          n_scales(cache.n_scales()) {}
    ESP_FN float2 next() {
        const float2 value = scaled_pair(*codes, f16_value(*scales));
        codes += n_pairs, scales += n_scales;
        return value;
    }
};

struct KvCode {
    int8_t q;
    uint16_t scale;
};

// The lanes of a warp bring 32 dimensions of a head, zeros beyond its last. Whole warps call it.
ESP_FN KvCode quantize_kv(float x) {
    const uint32_t magnitude = bits_from_float(x) & 0x7FFFFFFFu;
    const bool finite = warp_all(magnitude < 0x7F800000u);
    const float d = float_from_bits(warp_max(magnitude)) / float(kKvLargest);
    const uint16_t scale = finite && d < kKvLargestScale ? f16_bits(d) : kKvNanScale;
    if (scale == 0 || scale == kKvNanScale) return {0, scale};
    return {int8_t(max(-kKvLargest, min(kKvLargest, int(round_even(x / f16_value(scale)))))), scale};
}

// One head of one token's key and value into a slot of a block. Warps take 32 dimensions each.
ESP_FN void store_head(const Cache& cache, int64_t block, int head, int offset, const float* k, const float* v) {
    uint8_t *keys = cache.keys(block, head), *values = cache.values(block, head);
    const int lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
    for (int group = threadIdx.x >> 5; group < cache.n_scales(); group += n_warps) {
        const int d = kKvScaleDims * group + lane;
        const bool inside = d < cache.head_dim;
        const KvCode key = quantize_kv(inside ? k[d] : 0.0f), value = quantize_kv(inside ? v[d] : 0.0f);
        if (inside) {
            keys[(int64_t(d / 2) * cache.block_size + offset) * 2 + d % 2] = uint8_t(key.q);
            values[int64_t(offset) * cache.head_dim + d] = uint8_t(value.q);
        }
        if (lane == 0) {
            cache.scales(keys)[group * cache.block_size + offset] = key.scale;
            cache.scales(values)[offset * cache.n_scales() + group] = value.scale;
        }
    }
}

#else

ESP_FN float2 f16_pair(uint32_t both) { return make_float2(f16_value(uint16_t(both)), f16_value(uint16_t(both >> 16))); }

struct KeyReader {
    const uint32_t* words;
    int block_size;

    ESP_FN KeyReader(const Cache& cache, int64_t block, int head, int offset)
        : words(reinterpret_cast<const uint32_t*>(cache.keys(block, head)) + offset), block_size(cache.block_size) {}
    ESP_FN float scale(int) const { return 1.0f; }
    ESP_FN float2 pair(int pair, float) const { return f16_pair(words[int64_t(pair) * block_size]); }
};

struct ValueReader {
    const uint32_t* words;
    int n_pairs;

    ESP_FN ValueReader(const Cache& cache, int64_t block, int head, int offset, int pair)
        : words(reinterpret_cast<const uint32_t*>(cache.values(block, head)) + int64_t(offset) * (cache.head_dim / 2) + pair),
          n_pairs(cache.head_dim / 2) {}
    ESP_FN float2 next() {
        const float2 value = f16_pair(*words);
        words += n_pairs;
        return value;
    }
};

ESP_FN void store_head(const Cache& cache, int64_t block, int head, int offset, const float* k, const float* v) {
    uint16_t* keys = reinterpret_cast<uint16_t*>(cache.keys(block, head));
    uint16_t* values = reinterpret_cast<uint16_t*>(cache.values(block, head));
    for (int d = threadIdx.x; d < cache.head_dim; d += blockDim.x) {
        keys[(int64_t(d / 2) * cache.block_size + offset) * 2 + d % 2] = f16_bits(k[d]);
        values[int64_t(offset) * cache.head_dim + d] = f16_bits(v[d]);
    }
}

#endif

}  // namespace espalier
