// How attention reads and writes the kinds of cache (kv_cache.h): CachedF16 and CachedQ8, with the same names.
// CachedF32 has rows alone, which an indexer scores.
#pragma once

#include "cpu/kv_cache.h"
#include "cpu/simd.h"

namespace espalier::ESPALIER_TIER {

// The keys of one KV head from some position of a block on, or the values of one position.
struct CachedHead {
    uint8_t* data;
    uint16_t* scales;  // q8_0 only
};

static inline int lanes_left(int64_t n, int64_t i) { return int(n - i < 16 ? n - i : 16); }

struct CachedF16 {
    struct NoScale {};

    static CachedHead keys(const PagedCache& cache, int64_t block, int64_t head, int64_t offset) {
        return {cache.keys(block, head) + 2 * offset, nullptr};
    }
    static CachedHead values(const PagedCache& cache, int64_t block, int64_t head, int64_t offset) {
        return {cache.values(block, head) + 2 * offset * cache.head_dim_padded(), nullptr};
    }

    static NoScale key_scale(const CachedHead&, int64_t, int64_t) { return {}; }
    // Sixteen keys' dimension, `at` = dimension * block_size.
    static F32 load(const CachedHead& keys, int64_t at, NoScale) {
        return load_f16(reinterpret_cast<const uint16_t*>(keys.data) + at);
    }
    static F32 load_values(const CachedHead& values, int64_t dim) {
        return load_f16(reinterpret_cast<const uint16_t*>(values.data) + dim);
    }

    static void store_key(const float* k, const PagedCache& cache, const CachedHead& keys) {
        uint16_t* out = reinterpret_cast<uint16_t*>(keys.data);
        for (int64_t d = 0; d < cache.head_dim; d += 16) {
            uint16_t part[16];
            const int n = lanes_left(cache.head_dim, d);
            store_f16(part, load_first(k + d, n));
            for (int i = 0; i < n; ++i) out[(d + i) * cache.block_size] = part[i];
        }
    }
    static void store_value(const float* v, const PagedCache& cache, const CachedHead& values) {
        uint16_t* out = reinterpret_cast<uint16_t*>(values.data);
        for (int64_t d = 0; d < cache.head_dim; d += 16) store_f16(out + d, load_first(v + d, lanes_left(cache.head_dim, d)));
    }
};

struct CachedF32 {
    static CachedHead values(const PagedCache& cache, int64_t block, int64_t head, int64_t offset) {
        return {cache.values(block, head) + 4 * offset * cache.head_dim_padded(), nullptr};
    }
    static F32 load_values(const CachedHead& values, int64_t dim) {
        return espalier::ESPALIER_TIER::load(reinterpret_cast<const float*>(values.data) + dim);
    }
    static void store_value(const float* v, const PagedCache& cache, const CachedHead& values) {
        float* out = reinterpret_cast<float*>(values.data);
        for (int64_t d = 0; d < cache.head_dim; d += 16) store(out + d, load_first(v + d, lanes_left(cache.head_dim, d)));
    }
};

struct CachedQ8 {
    static CachedHead keys(const PagedCache& cache, int64_t block, int64_t head, int64_t offset) {
        uint8_t* data = cache.keys(block, head);
        return {data + offset, cache.key_scales(data) + offset};
    }
    static CachedHead values(const PagedCache& cache, int64_t block, int64_t head, int64_t offset) {
        uint8_t* data = cache.values(block, head);
        return {data + offset * cache.head_dim_padded(), cache.value_scales(data) + offset * cache.n_scales()};
    }

    static F32 key_scale(const CachedHead& keys, int64_t dim, int64_t block_size) {
        return load_f16(keys.scales + dim / kKvScaleDims * block_size);
    }
    static F32 load(const CachedHead& keys, int64_t at, F32 scale) {
        return mul(to_float(widen_s8(keys.data + at)), scale);
    }
    static F32 load_values(const CachedHead& values, int64_t dim) {
        return mul(to_float(widen_s8(values.data + dim)), splat_f16(values.scales + dim / kKvScaleDims));
    }

    static void store_key(const float* k, const PagedCache& cache, const CachedHead& keys) {
        for (int64_t d = 0; d < cache.head_dim; d += kKvScaleDims) {
            const Quantized block = quantize(k + d, cache.head_dim - d);
            keys.scales[d / kKvScaleDims * cache.block_size] = block.scale;
            for (int64_t i = d; i < cache.head_dim && i < d + kKvScaleDims; ++i)
                keys.data[i * cache.block_size] = block.q[i - d];
        }
    }
    static void store_value(const float* v, const PagedCache& cache, const CachedHead& values) {
        const int64_t padded = cache.head_dim_padded();
        for (int64_t d = 0; d < padded; d += kKvScaleDims) {
            const Quantized block = quantize(v + d, cache.head_dim - d);
            values.scales[d / kKvScaleDims] = block.scale;
            for (int64_t i = d; i < padded && i < d + kKvScaleDims; ++i) values.data[i] = block.q[i - d];
        }
    }

private:
    struct Quantized {
        uint8_t q[kKvScaleDims];  // int8, as bytes
        uint16_t scale;
    };

    // The rule of kv_q8.h for the first n numbers at x, at most 32 of them; the others count as zeros.
    static Quantized quantize(const float* x, int64_t n) {
        const F32 low = load_first(x, lanes_left(n, 0)), high = n > 16 ? load_first(x + 16, lanes_left(n, 16)) : splat(0.0f);
        const float d = reduce_max(max(abs(low), abs(high))) / float(kKvLargest);
        const bool finite = reduce_add(add(sub(low, low), sub(high, high))) == 0.0f;
        uint16_t scales[16];
        store_f16(scales, splat(d));
        Quantized out{{}, finite && d < kKvLargestScale ? scales[0] : kKvNanScale};
        if (out.scale == 0 || out.scale == kKvNanScale) return out;
        const F32 divisor = splat_f16(&out.scale);
        int32_t q[kKvScaleDims];
        store(q, round_to_int(div(low, divisor)));
        store(q + 16, round_to_int(div(high, divisor)));
        for (int i = 0; i < kKvScaleDims; ++i)
            out.q[i] = uint8_t(q[i] > kKvLargest ? kKvLargest : q[i] < -kKvLargest ? -kKvLargest : q[i]);
        return out;
    }
};

}  // namespace espalier::ESPALIER_TIER
