// Keys and values of the cache as second operands of mma_f16 (intrinsics.cuh), straight from global memory. lane = 4 g + t.
//
// Which key is which column of a product is free as long as scores and values agree. A run is 32 positions of one cache
// block (block_size % 32 == 0): four tiles of eight keys, and column g of tile j is position 4 g + j of the run, so that a
// lane's keys of neighbouring tiles are neighbours in memory and come in one load. Scores come out with a lane's two
// columns at positions 8 t + j and 8 t + 4 + j; the weights of two tiles, j and j + 1, are the sixteen keys of one product
// with values, in that order. Which dimension is which column of a product with values is free too: a lane takes
// neighbours. q8_0: codes become halves, which is exact; keys are scaled after their products, values before.
#pragma once

#include "cuda/kv_cache.cuh"

namespace espalier {

constexpr int kRun = 32;       // positions
constexpr int kRunTiles = 4;   // of eight keys
constexpr int kChunkDims = 16; // of one product

// n words at an address that is a multiple of their size.
template <int n>
ESP_FN void load_words(const void* from, unsigned (&to)[n]) {
    static_assert(n == 1 || n == 2 || n == 4, "one load");
    if constexpr (n == 4) {
        const uint4 words = *static_cast<const uint4*>(from);
        to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    } else if constexpr (n == 2) {
        const uint2 words = *static_cast<const uint2*>(from);
        to[0] = words.x, to[1] = words.y;
    } else {
        to[0] = *static_cast<const unsigned*>(from);
    }
}

// All bits set of a half that is NaN or infinite, none of another.
ESP_FN unsigned not_finite(unsigned pair) {
    return (((pair & 0x7C007C00u) + 0x04000400u) >> 15 & 0x00010001u) * 0xFFFFu;
}

#ifdef ESP_KV_Q8

constexpr bool kKeysAreScaled = true;

// Codes 2 i and 2 i + 1 of a word as halves. `bytes` are the codes with their signs turned, code + 128: in the low bits of
// the half 1024 that is 1152 too much.
constexpr uint32_t kSigns = 0x80808080u;
ESP_FN unsigned halves_of(unsigned bytes, int i) {
    return add_f16x2(byte_perm(bytes, 0x64646464u, i ? 0x4342u : 0x4140u), 0xE480E480u);
}

// kTiles neighbouring tiles of a run, from first_tile on, as one lane reads them.
template <int kTiles>
struct KeyRun {
    struct Keys {
        unsigned words[kTiles / 2];
        ESP_FN unsigned of_tile(int i) const { return halves_of(words[i / 2] ^ kSigns, i % 2); }
    };
    struct Scales {
        unsigned words[2][kTiles / 2];
        ESP_FN float of_column(int tile, int i) const { return f16_value(uint16_t(words[i][tile / 2] >> 16 * (tile % 2))); }
    };
    const uint16_t *codes, *scales;
    int block_size;

    ESP_FN KeyRun(const Cache& cache, int64_t block, int head, int offset, int first_tile, int g, int t)
        : codes(reinterpret_cast<const uint16_t*>(cache.keys(block, head)) + offset + 4 * g + first_tile),
          scales(cache.scales(cache.keys(block, head)) + offset + 8 * t + first_tile),
          block_size(cache.block_size) {}
    // A pair of dimensions of the lane's key in each tile.
    ESP_FN void load(int pair, Keys& keys) const { load_words(codes + pair * block_size, keys.words); }
    // Of dimensions 32 * group and on, of column 2 t and of column 2 t + 1 of each tile.
    ESP_FN void load_scales(int group, Scales& to) const {
        load_words(scales + group * block_size, to.words[0]);
        load_words(scales + group * block_size + 4, to.words[1]);
    }
};

// What a lane brings of sixteen keys, tiles j and j + 1 of a run, to products with values: kTiles dimensions of positions
// 8 t + j, 8 t + 4 + j and the one behind each. A value is code * scale, 19 bits: the sum of two halves.
template <int kTiles>
struct ValueRows {
    static constexpr bool kHasRest = true;
    static constexpr int kWords = (kTiles + 3) / 4;
    unsigned bytes[4][kWords];  // as halves_of takes them
    unsigned scales[2];         // of the first two rows, of the others

    // offset: of the run's position j. Dimensions beyond the head are zeros.
    ESP_FN void load(const Cache& cache, int64_t block, int head, int offset, int dim, int t) {
        uint8_t* const values = cache.values(block, head);
        unsigned scale[4] = {};
#pragma unroll
        for (int row = 0; row < 4; ++row) {
            const int position = offset + 8 * t + 4 * (row % 2) + row / 2;
            unsigned codes[kWords] = {};
            if (dim < cache.head_dim) {
                const uint8_t* const from = values + position * cache.head_dim + dim;
                if constexpr (kTiles == 2) codes[0] = *reinterpret_cast<const uint16_t*>(from);
                else load_words(from, codes);
                scale[row] = cache.scales(values)[position * cache.n_scales() + dim / kKvScaleDims];
            }
#pragma unroll
            for (int i = 0; i < kWords; ++i) bytes[row][i] = codes[i] ^ kSigns;
        }
        scales[0] = scale[0] | scale[1] << 16, scales[1] = scale[2] | scale[3] << 16;
    }

    // The second operand of tile `tile`: the values, or what these lack of code * scale.
    ESP_FN void fragment(int tile, unsigned (&b)[2]) const {
        for (int i = 0; i < 2; ++i) b[i] = mul_f16x2(codes(tile, i), scales[i]);
    }
    ESP_FN void rest_fragment(int tile, unsigned (&b)[2]) const {
        for (int i = 0; i < 2; ++i)
            b[i] = fms_f16x2(codes(tile, i), scales[i], mul_f16x2(codes(tile, i), scales[i]));
    }
    ESP_FN void take_out(int tile, const unsigned (&mask)[2]) {
        const unsigned byte = 255u << 8 * (tile % 4);
        for (int row = 0; row < 4; ++row) {
            if ((mask[row / 2] >> 16 * (row % 2) & 1) == 0) continue;
            unsigned& word = bytes[row][tile / 4];
            word = (word & ~byte) | (kSigns & byte);
        }
        for (int i = 0; i < 2; ++i) scales[i] &= ~not_finite(scales[i]);
    }

private:
    ESP_FN unsigned codes(int tile, int i) const {  // of rows 2 i and 2 i + 1
        const unsigned pairs = tile % 4 < 2 ? 0x5140u : 0x7362u;
        return halves_of(byte_perm(bytes[2 * i][tile / 4], bytes[2 * i + 1][tile / 4], pairs), tile % 2);
    }
};

#else

constexpr bool kKeysAreScaled = false;

template <int kTiles>
struct KeyRun {
    struct Keys {
        unsigned words[kTiles];
        ESP_FN unsigned of_tile(int i) const { return words[i]; }
    };
    struct Scales {};
    const uint32_t* words;
    int block_size;

    ESP_FN KeyRun(const Cache& cache, int64_t block, int head, int offset, int first_tile, int g, int)
        : words(reinterpret_cast<const uint32_t*>(cache.keys(block, head)) + offset + 4 * g + first_tile),
          block_size(cache.block_size) {}
    ESP_FN void load(int pair, Keys& keys) const { load_words(words + pair * block_size, keys.words); }
};

template <int kTiles>
struct ValueRows {
    static constexpr bool kHasRest = false;
    unsigned rows[4][kTiles / 2];

    ESP_FN void load(const Cache& cache, int64_t block, int head, int offset, int dim, int t) {
        const uint16_t* const values = reinterpret_cast<const uint16_t*>(cache.values(block, head));
#pragma unroll
        for (int row = 0; row < 4; ++row) {
            const int position = offset + 8 * t + 4 * (row % 2) + row / 2;
#pragma unroll
            for (int i = 0; i < kTiles / 2; ++i) rows[row][i] = 0;
            if (dim < cache.head_dim) load_words(values + position * cache.head_dim + dim, rows[row]);
        }
    }
    ESP_FN void fragment(int tile, unsigned (&b)[2]) const {
        const unsigned halves = tile % 2 ? 0x7632u : 0x5410u;
        for (int i = 0; i < 2; ++i) b[i] = byte_perm(rows[2 * i][tile / 2], rows[2 * i + 1][tile / 2], halves);
    }
    ESP_FN void rest_fragment(int, unsigned (&)[2]) const {}
    // Zeros take the place of the values of a tile where the mask of its fragment is set.
    ESP_FN void take_out(int tile, const unsigned (&mask)[2]) {
        for (int row = 0; row < 4; ++row)
            rows[row][tile / 2] &= ~((mask[row / 2] >> 16 * (row % 2) & 0xFFFFu) << 16 * (tile % 2));
    }
};

#endif

}  // namespace espalier
