// One layer's paged keys and values, and where a head's lie inside a block of block_size positions.
//
// Keys lie transposed, so that 16 positions are one vector; values lie position by position.
//   f16    keys [head_dim][block_size] f16                values [block_size][head_dim_padded] f16
//   q8_0   keys [head_dim][block_size] int8               values [block_size][head_dim_padded] int8
//          and then scales [n_scales][block_size] f16     and then scales [block_size][n_scales] f16
//   f32    rows of latents that are scored to choose among them (LatentGroup): values [block_size][head_dim_padded] float32
// block_size is a multiple of 16; head_dim_padded is head_dim rounded up to 16, the rest zeros.
#pragma once

#include <cstdint>

#include "common/kv_q8.h"

namespace espalier {

enum class KvType { kF16, kQ8_0, kF32 };

struct PagedCache {
    KvType type;
    uint8_t* k;  // [n_blocks, n_head_kv, key_bytes()]
    uint8_t* v;  // [n_blocks, n_head_kv, value_bytes()]
    int64_t n_blocks, n_head_kv, head_dim, block_size;

    int64_t head_dim_padded() const { return (head_dim + 15) / 16 * 16; }
    int64_t n_scales() const { return kv_scales(head_dim); }
    int64_t key_bytes() const { return bytes(head_dim); }
    int64_t value_bytes() const { return bytes(head_dim_padded()); }
    uint8_t* keys(int64_t block, int64_t head) const { return k + (block * n_head_kv + head) * key_bytes(); }
    uint8_t* values(int64_t block, int64_t head) const { return v + (block * n_head_kv + head) * value_bytes(); }
    // q8_0: the scales after a head's keys or values.
    uint16_t* key_scales(uint8_t* keys) const { return reinterpret_cast<uint16_t*>(keys + head_dim * block_size); }
    uint16_t* value_scales(uint8_t* values) const {
        return reinterpret_cast<uint16_t*>(values + head_dim_padded() * block_size);
    }

private:
    int64_t bytes(int64_t dims) const {
        if (type == KvType::kQ8_0) return block_size * (dims + 2 * n_scales());
        return block_size * dims * (type == KvType::kF16 ? 2 : 4);
    }
};

}  // namespace espalier
