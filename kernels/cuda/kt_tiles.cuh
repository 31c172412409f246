// IQ1_KT .. IQ4_KT in device memory: tiles of 16 rows x 256 columns, laid out for the lanes of a warp.
//
// A matrix is [ceil(n_out / 16)][n_in / 256] tiles, rows beyond n_out zero, then float d[16 * ceil(n_out / 16)].
// Lane 4 g + t of a warp works on rows g and g + 8 and, in every 32-block, on columns 8 t .. 8 t + 7: the eight weights of
// one trellis group (two groups of four in IQ4_KT). The blocks 2p and 2p + 1 of a tile make plane p, which feeds chain p of
// the linear formula. So one plane is what a lane loads at once, neighbours side by side, and a warp that walks down a tile
// row reads one sequential stream.
//
//   tile of IQ2_KT   uint16 index [4 p][32 lanes][2 rows][2 blocks]           scales [4 p][8 g] of four nibbles     1088 bytes
//           IQ3_KT   the indices of IQ2_KT, then sign words [4 p][32 lanes]; scales as IQ2_KT                    1600 bytes
//                    (bit 8 (k mod 4) + 4 row + 2 block + k / 4: the sign of column 8 t + k)
//           IQ4_KT   uint16 index [4 p][32][2 rows][2 blocks][2 groups]       scales [4 p][8 g] of four bytes       2176 bytes
//           IQ1_KT   index bits 0-7  [4 p][32] of four bytes, bits 8-11 [4 p][32] of four nibbles,
//                    bit 12 [32] of 4 p x four bits                            scales [4 p][8 g] of four nibbles      896 bytes
// "four" is always (row g, block 2p), (row g, block 2p + 1), (row g + 8, block 2p), (row g + 8, block 2p + 1), lowest first.
// That is the file's size, and 17/16 of it for IQ4_KT, whose 15-bit indices get 16 bits: bit 15 is the block's offset bit.
#pragma once

#include "cuda/intrinsics.cuh"
#include "common/tensor_types.h"

namespace espalier {

constexpr int kTileRows = 16;
constexpr int kTileColumns = 256;
constexpr int kPlanes = 4;
constexpr int kWarp = 32;

static_assert(kTrellisOffsetHigh - kTrellisOffset == 1u << 15, "IQ4_KT's offset bit is bit 15 of its index");

// What a lane holds of one plane, before and after memory: h = 0, 1 row g + 8 h; i = 0, 1 block 2p + i.
struct LaneFields {
    uint32_t index[2][2][2];  // [h][i][group]; the second group is IQ4_KT's
    uint32_t signs[2][2];     // bit k: column 8 t + k is negative (IQ3_KT)
};

// One field of every plane of a tile, from its address on: a lane's own begins behind those of the lanes before it.
template <class Field>
struct LaneStream {
    const Field* own;

    LaneStream() = default;
    ESP_FN LaneStream(const uint8_t* fields, int lane) : own(reinterpret_cast<const Field*>(fields) + lane) {}
    ESP_FN void advance(int n_bytes) { own = reinterpret_cast<const Field*>(reinterpret_cast<const uint8_t*>(own) + n_bytes); }
    ESP_FN Field plane(int p) const { return own[p * kWarp]; }
};

// Index planes of IQ2_KT and IQ3_KT: one uint16 for each row and block.
struct IndexPlane16 {
    static constexpr int kBytes = kPlanes * kWarp * 8;
    static constexpr bool kSigned = false;
    using Lane = LaneStream<uint2>;
    uint32_t row[2];  // block 2p in the low half

    ESP_FN void load(const Lane& lane, int p) {
        const uint2 words = lane.plane(p);
        row[0] = words.x, row[1] = words.y;
    }
    // Selected, not indexed: h and i may be known at run time only, and an index would put the fields into local memory.
    ESP_FN uint32_t index(int h, int i, int) const {
        const uint32_t both = h ? row[1] : row[0];
        return i ? both >> 16 : both & 0xFFFFu;
    }
    ESP_FN uint32_t start(int h, int i, int) const { return add_half(row[h], i, kTrellisOffset); }
    static ESP_FN void store(uint8_t* tile, int p, int lane, const LaneFields& f) {
        reinterpret_cast<uint2*>(tile)[p * kWarp + lane] =
            make_uint2(f.index[0][0][0] | f.index[0][1][0] << 16, f.index[1][0][0] | f.index[1][1][0] << 16);
    }
};

template <class T>
struct KtPlane;

template <>
struct KtPlane<IQ2_KT> : IndexPlane16 {
    static constexpr int kScaleBits = 4;
    static constexpr int kScalesAt = kBytes;
    static ESP_FN uint32_t signs(int, int, int) { return 0; }
};

template <>
struct KtPlane<IQ3_KT> : IndexPlane16 {
    static constexpr int kScaleBits = 4;
    static constexpr int kScalesAt = kBytes + kPlanes * kWarp * 4;
    static constexpr bool kSigned = true;  // the generator gives magnitudes
    uint32_t sign_bits;

    struct Lane {
        IndexPlane16::Lane index;
        LaneStream<uint32_t> signs;

        Lane() = default;
        ESP_FN Lane(const uint8_t* tile, int lane) : index(tile, lane), signs(tile + kBytes, lane) {}
        ESP_FN void advance(int n_bytes) { index.advance(n_bytes), signs.advance(n_bytes); }
    };
    ESP_FN void load(const Lane& lane, int p) {
        IndexPlane16::load(lane.index, p);
        sign_bits = lane.signs.plane(p);
    }
    // Byte j of the result is 1 where column 8 t + 4 half + j is negative.
    ESP_FN uint32_t signs(int h, int i, int half) const { return sign_bits >> (4 * h + 2 * i + half) & 0x01010101u; }
    static ESP_FN void store(uint8_t* tile, int p, int lane, const LaneFields& f) {
        IndexPlane16::store(tile, p, lane, f);
        uint32_t word = 0;
        for (int n = 0; n < 32; ++n) {
            const int h = n >> 4, i = n >> 3 & 1, k = n & 7;
            word |= (f.signs[h][i] >> k & 1u) << (8 * (k & 3) + 4 * h + 2 * i + (k >> 2));
        }
        reinterpret_cast<uint32_t*>(tile + kBytes)[p * kWarp + lane] = word;
    }
};

template <>
struct KtPlane<IQ4_KT> {
    static constexpr int kScaleBits = 8;
    static constexpr int kScalesAt = kPlanes * kWarp * 16;
    static constexpr bool kSigned = false;
    using Lane = LaneStream<uint4>;
    uint32_t word[2][2];  // [h][i], first group in the low half

    ESP_FN void load(const Lane& lane, int p) {
        const uint4 words = lane.plane(p);
        word[0][0] = words.x, word[0][1] = words.y, word[1][0] = words.z, word[1][1] = words.w;
    }
    ESP_FN uint32_t index(int h, int i, int group) const {
        const uint32_t first = i ? word[0][1] : word[0][0], second = i ? word[1][1] : word[1][0];
        const uint32_t both = h ? second : first;
        return group ? both >> 16 : both & 0xFFFFu;
    }
    ESP_FN uint32_t start(int h, int i, int group) const { return add_half(word[h][i], group, kTrellisOffset); }
    static ESP_FN uint32_t signs(int, int, int) { return 0; }
    static ESP_FN void store(uint8_t* tile, int p, int lane, const LaneFields& f) {
        reinterpret_cast<uint4*>(tile)[p * kWarp + lane] =
            make_uint4(f.index[0][0][0] | f.index[0][0][1] << 16, f.index[0][1][0] | f.index[0][1][1] << 16,
                       f.index[1][0][0] | f.index[1][0][1] << 16, f.index[1][1][0] | f.index[1][1][1] << 16);
    }
};

template <>
struct KtPlane<IQ1_KT> {
    static constexpr int kScaleBits = 4;
    static constexpr int kMiddleAt = kPlanes * kWarp * 4;
    static constexpr int kTopAt = kMiddleAt + kPlanes * kWarp * 2;
    static constexpr int kScalesAt = kTopAt + kWarp * 2;
    static constexpr bool kSigned = false;
    uint32_t low, middle, top;  // bits 0-7, 8-11 and 12 of the four indices

    struct Lane {
        LaneStream<uint32_t> low;
        LaneStream<uint16_t> middle, top;

        Lane() = default;
        ESP_FN Lane(const uint8_t* tile, int lane) : low(tile, lane), middle(tile + kMiddleAt, lane), top(tile + kTopAt, lane) {}
        ESP_FN void advance(int n_bytes) { low.advance(n_bytes), middle.advance(n_bytes), top.advance(n_bytes); }
    };
    ESP_FN void load(const Lane& lane, int p) {
        low = lane.low.plane(p);
        middle = lane.middle.plane(p);
        top = uint32_t(lane.top.plane(0)) >> (4 * p);
    }
    ESP_FN uint32_t index(int h, int i, int) const {
        const int n = 2 * h + i;
        return (low >> (8 * n) & 255u) | (middle >> (4 * n) & 15u) << 8 | (top >> n & 1u) << 12;
    }
    ESP_FN uint32_t start(int h, int i, int group) const { return index(h, i, group) + kTrellisOffset; }
    static ESP_FN uint32_t signs(int, int, int) { return 0; }
    // The top bits of the four planes share a word: planes are stored in order, by one thread.
    static ESP_FN void store(uint8_t* tile, int p, int lane, const LaneFields& f) {
        uint32_t words[3] = {0, 0, 0};
        for (int n = 0; n < 4; ++n) {
            const uint32_t index = f.index[n >> 1][n & 1][0];
            words[0] |= (index & 255u) << (8 * n);
            words[1] |= (index >> 8 & 15u) << (4 * n);
            words[2] |= (index >> 12) << (4 * p + n);
        }
        reinterpret_cast<uint32_t*>(tile)[p * kWarp + lane] = words[0];
        reinterpret_cast<uint16_t*>(tile + kMiddleAt)[p * kWarp + lane] = uint16_t(words[1]);
        uint16_t& tops = reinterpret_cast<uint16_t*>(tile + kTopAt)[lane];
        tops = uint16_t((p ? tops : 0u) | words[2]);
    }
};

// The four scale codes that rows g and g + 8 have in plane p: [h][i], as they lie in the file.
template <class T>
struct KtScales {
    static constexpr int kBits = KtPlane<T>::kScaleBits;
    static constexpr int kBytes = kPlanes * 8 * 4 * kBits / 8;
    uint32_t codes;

    static ESP_FN const uint8_t* at(const uint8_t* tile, int p, int g) {
        return tile + KtPlane<T>::kScalesAt + (8 * p + g) * kBits / 2;
    }
    ESP_FN void load(const uint8_t* own) {
        codes = kBits == 4 ? *reinterpret_cast<const uint16_t*>(own) : *reinterpret_cast<const uint32_t*>(own);
    }
    ESP_FN uint32_t code(int h, int i) const { return codes >> (kBits * (2 * h + i)) & ((1u << kBits) - 1); }
    // The code and what follows it.
    ESP_FN uint32_t from_code(int h, int i) const { return codes >> (kBits * (2 * h + i)); }
    static ESP_FN void store(uint8_t* tile, int p, int g, uint32_t codes) {
        uint8_t* scales = tile + KtPlane<T>::kScalesAt;
        if (kBits == 4) {
            reinterpret_cast<uint16_t*>(scales)[8 * p + g] = uint16_t(codes);
        } else {
            reinterpret_cast<uint32_t*>(scales)[8 * p + g] = codes;
        }
    }
};

template <class T>
ESP_FN constexpr int kt_tile_bytes() {
    return KtPlane<T>::kScalesAt + KtScales<T>::kBytes;
}

// How a code becomes a scale. Table: a warp keeps entry `lane` of the table in a register and looks up by shuffle.
template <class T>
struct KtScaleRule {
    static constexpr bool kTable = true;  // IQ1_KT and IQ2_KT
    static ESP_FN int value(uint32_t code) { return kTable4[code]; }
    static ESP_FN uint32_t code(const uint8_t* block, int b);
};

template <>
struct KtScaleRule<IQ3_KT> {
    static constexpr bool kTable = false;
    static ESP_FN int value(uint32_t code) { return int(code); }
    static ESP_FN uint32_t code(const uint8_t* block, int b) { return uint32_t(kt_scale_code(block, b)); }
};

template <>
struct KtScaleRule<IQ4_KT> {
    static constexpr bool kTable = false;
    static ESP_FN int value(uint32_t code) { return int(code) - 64; }
    static ESP_FN uint32_t code(const uint8_t* block, int b) { return uint32_t(IQ4_KT::scale(block, b) + 64); }
};

template <>
ESP_FN uint32_t KtScaleRule<IQ1_KT>::code(const uint8_t* block, int b) { return block[b] & 15u; }
template <>
ESP_FN uint32_t KtScaleRule<IQ2_KT>::code(const uint8_t* block, int b) { return uint32_t(kt_scale_code(block, b)); }

// multiplier(k) as a constant wherever an unrolled loop makes k one; calling it would leave a loop in the kernel.
template <int k>
constexpr uint32_t kMultiplier = IntegerTrellis::multiplier(k);

ESP_FN uint32_t multiplier(int k) {
    switch (k) {
        case 1: return kMultiplier<1>;
        case 2: return kMultiplier<2>;
        case 3: return kMultiplier<3>;
        case 4: return kMultiplier<4>;
        case 5: return kMultiplier<5>;
        case 6: return kMultiplier<6>;
        case 7: return kMultiplier<7>;
        default: return kMultiplier<8>;
    }
}

// The masked generator word of column 8 t + k: four bytes, whose sum less kTrellisCentre is the value.
template <class T>
ESP_FN uint32_t kt_word(const KtPlane<T>& plane, int h, int i, int k) {
    const uint32_t step = multiplier(k % T::kGroupWeights + 1);
    return (plane.start(h, i, k / T::kGroupWeights) * step) & kTrellisMask;
}

// Weights in tiles, for kernels that take any weights.
template <class T>
struct KtTiles {
    using Type = T;

    const uint8_t* data;
    const float* d;
    int n_tiles_in;  // tiles in a row of tiles

    ESP_FN KtTiles(const uint8_t* tiles, int n_out, int n_in) : data(tiles), n_tiles_in(n_in / kTileColumns) {
        const int64_t n_tile_rows = (n_out + kTileRows - 1) / kTileRows;
        d = reinterpret_cast<const float*>(tiles + n_tile_rows * n_tiles_in * kt_tile_bytes<T>());
    }

    ESP_FN const uint8_t* tile(int tile_row, int s) const {
        return data + (int64_t(tile_row) * n_tiles_in + s) * kt_tile_bytes<T>();
    }

    ESP_FN void decode(int row, int b, Block32& out) const {
        const uint8_t* tile_data = tile(row / kTileRows, b / 8);
        const int g = row & 7, h = row >> 3 & 1, p = (b & 7) >> 1, i = b & 1;
        KtScales<T> scales;
        scales.load(KtScales<T>::at(tile_data, p, g));
        set_row_scale(KtScaleRule<T>::value(scales.code(h, i)), out);
#pragma unroll
        for (int t = 0; t < 4; ++t) {
            KtPlane<T> plane;
            plane.load(typename KtPlane<T>::Lane(tile_data, 4 * g + t), p);
            decode_columns(plane, h, i, t, out);
        }
    }

    static ESP_FN void decode_columns(const KtPlane<T>& plane, int h, int i, int t, Block32& out) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const uint32_t start = plane.index(h, i, k / T::kGroupWeights) + kTrellisOffset;
            int value = IntegerTrellis::value(start * multiplier(k % T::kGroupWeights + 1));
            if constexpr (KtPlane<T>::kSigned) {
                const bool negative = plane.signs(h, i, k >> 2) >> (8 * (k & 3)) & 1u;
                value = value < 0 ? -value : value;
                out.minus_zeros |= uint32_t(value == 0 && negative) << (8 * t + k);
                value = negative ? -value : value;
            }
            out.q[8 * t + k] = int16_t(value);
        }
    }

    ESP_FN float row_d(int row) const { return d[row]; }
    static ESP_FN float row_mean(int) { return 0.0f; }
};

}  // namespace espalier
