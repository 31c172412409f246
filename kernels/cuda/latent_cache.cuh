// One layer's paged latents: a row is a token's key and, with its first numbers, its value, for all heads.
//
//   f16    [block_size][stride] f16
//   q8_0   [block_size][stride] int8, and then scales [block_size][n_scales] f16     (common/kv_q8.h)
// stride is the width rounded up to 16, so that rows lie on 16 bytes; the rest is zeros, which nobody writes.
// block_size is a multiple of 8. ESP_KV_Q8 chooses q8_0.
#pragma once

#include "cuda/kv_cache.cuh"

namespace espalier {

#ifdef ESP_KV_Q8
constexpr int kLatentBytes = 1;  // of a number
#else
constexpr int kLatentBytes = 2;
#endif

struct LatentRow {
    uint8_t* numbers;
#ifdef ESP_KV_Q8
    uint16_t* scales;
#endif
};

struct LatentCache {
    uint8_t* blocks;
    int width, block_size;

    ESP_FN int stride() const { return (width + 15) / 16 * 16; }
    ESP_FN int n_scales() const { return int(kv_scales(width)); }
    ESP_FN LatentRow row(int64_t block, int offset) const {
#ifdef ESP_KV_Q8
        uint8_t* const of_block = blocks + block * block_size * (stride() + 2 * n_scales());
        uint16_t* const scales = reinterpret_cast<uint16_t*>(of_block + int64_t(block_size) * stride());
        return {of_block + int64_t(offset) * stride(), scales + int64_t(offset) * n_scales()};
#else
        return {blocks + (block * block_size + offset) * 2 * stride()};
#endif
    }
};

#ifdef ESP_KV_Q8

// Four numbers of a row as they lie, from a multiple of four on.
struct FourLatents {
    unsigned codes;
    uint16_t scale;

    ESP_FN FourLatents() : codes(0), scale(0) {}
    ESP_FN FourLatents(const LatentRow& row, int dim)
        : codes(*reinterpret_cast<const unsigned*>(row.numbers + dim)), scale(row.scales[dim / kKvScaleDims]) {}
    ESP_FN float4 values() const {
        const float d = f16_value(scale);
        const float2 low = scaled_pair(uint16_t(codes), d), high = scaled_pair(uint16_t(codes >> 16), d);
        return make_float4(low.x, low.y, high.x, high.y);
    }
};

// A row [width], by the warps of a block, 32 numbers each.
ESP_FN void store_row(const LatentCache& cache, const LatentRow& row, const float* x) {
    const int lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
    for (int group = threadIdx.x >> 5; group < cache.n_scales(); group += n_warps) {
        const int d = kKvScaleDims * group + lane;
        const KvCode code = quantize_kv(d < cache.width ? x[d] : 0.0f);
        if (d < cache.width) row.numbers[d] = uint8_t(code.q);
        if (lane == 0) row.scales[group] = code.scale;
    }
}

#else

struct FourLatents {
    uint2 words;

    ESP_FN FourLatents() : words(make_uint2(0, 0)) {}
    ESP_FN FourLatents(const LatentRow& row, int dim) : words(*reinterpret_cast<const uint2*>(row.numbers + 2 * dim)) {}
    ESP_FN float4 values() const {
        const float2 low = f16_pair(words.x), high = f16_pair(words.y);
        return make_float4(low.x, low.y, high.x, high.y);
    }
};

ESP_FN void store_row(const LatentCache& cache, const LatentRow& row, const float* x) {
    for (int d = threadIdx.x; d < cache.width; d += blockDim.x)
        reinterpret_cast<uint16_t*>(row.numbers)[d] = f16_bits(x[d]);
}

#endif

}  // namespace espalier
