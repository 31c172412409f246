// A 32-block of a tile as vectors: the weights of 16 rows as unsigned bytes, and what multiplies their dot products.
// One overload of decode() for each layout in decode_*.h, over the vectors of simd.h. These restate the decoding
// of kernels/common for speed and are compared with it bit for bit.
//
// Weights enter as u8 with the zero point 128 (or 0, see Entry), so that dot = sum(u * a) - 128 * sum(a).
#pragma once

#include "cpu/simd.h"
#include "cpu/tiles/layout.h"

namespace espalier::ESPALIER_TIER {

// Where the parts of one tile begin.
struct TileView {
    const uint8_t* body;
    const uint8_t* tail;
    int unit_blocks;  // 8 but for the last unit of a row with a tail

    // Where a field of types with 8 blocks a unit begins in the unit, from its place in a whole one.
    int at(int field) const { return field / 8 * unit_blocks; }
};

// unit_blocks: of the unit that will be decoded.
template <class T>
static inline TileView view_tile(const uint8_t* tile, int64_t n_blocks, int unit_blocks = 8) {
    return {tile + row_factor_bytes<T>(), tile + tail_offset<T>(n_blocks), unit_blocks};
}

// 32-blocks in whole units; those of types without a tail all are.
template <class T>
static inline int64_t whole_blocks(int64_t n_blocks) {
    return T::kTailNibbles == 0 ? n_blocks : n_blocks / 8 * 8;
}

// How integers enter the formula (block32.h). Types that enter alike share the kernels of linear_matmul.h.
struct PlainEntry {
    static constexpr int kPlanes = 1;         // 2: 16-bit values, in two planes of bytes
    static constexpr int kHalves = 1;         // integer scales (and minimums) in a 32-block that differ
    static constexpr bool kIntScale = false;  // an integer scale times the dot, under the block's d
    static constexpr bool kMin = false;
    static constexpr bool kCentred = true;    // zero point 128; else 0
    static constexpr bool kScaleTable = false;  // s is one of sixteen numbers: table()[scale_code]
};
struct SixteenBitEntry : PlainEntry {
    static constexpr int kPlanes = 2;
};
struct ScaledEntry : PlainEntry {
    static constexpr bool kIntScale = true;
};
struct ScaledMinEntry : ScaledEntry {
    static constexpr bool kMin = true, kCentred = false;
};
struct SixteenWideEntry : ScaledEntry {
    static constexpr int kHalves = 2;
};
struct SixteenWideMinEntry : SixteenWideEntry {
    static constexpr bool kMin = true, kCentred = false;
};
struct PlainMinEntry : PlainEntry {
    static constexpr bool kMin = true, kCentred = false;
};

// The scales of sixteen codes, as floats.
struct ScaleTable {
    float v[16];
};
constexpr ScaleTable nonlinear_scales() {
    ScaleTable t{};
    for (int i = 0; i < 16; ++i) t.v[i] = kTable4[i];
    return t;
}
constexpr ScaleTable linear_scales() {
    ScaleTable t{};
    for (int i = 0; i < 16; ++i) t.v[i] = static_cast<float>(i);
    return t;
}
static constexpr ScaleTable kNonlinearScales = nonlinear_scales(), kLinearScales = linear_scales();

struct NonlinearScaleEntry : PlainEntry {
    static constexpr bool kScaleTable = true;
    static const float* table() { return kNonlinearScales.v; }
};
struct LinearScaleEntry : PlainEntry {
    static constexpr bool kScaleTable = true;
    static const float* table() { return kLinearScales.v; }
};

template <class T>
struct EntryOf {
    using Entry = PlainEntry;
};
#define ESP_ENTRY(name, entry) \
    template <>                \
    struct EntryOf<name> {     \
        using Entry = entry;   \
    };
ESP_ENTRY(IQ1_KT, NonlinearScaleEntry)
ESP_ENTRY(IQ2_KT, NonlinearScaleEntry)
ESP_ENTRY(IQ3_KT, LinearScaleEntry)
ESP_ENTRY(IQ2_KT_V1, SixteenBitEntry)
ESP_ENTRY(IQ3_KT_V1, SixteenBitEntry)
ESP_ENTRY(IQ4_KT_V1, SixteenBitEntry)
ESP_ENTRY(IQ2_K, SixteenWideEntry)
ESP_ENTRY(IQ3_K, SixteenWideEntry)
ESP_ENTRY(IQ4_K, SixteenWideEntry)
ESP_ENTRY(IQ5_K, SixteenWideEntry)
ESP_ENTRY(IQ6_K, SixteenWideEntry)
ESP_ENTRY(Q6_K, SixteenWideEntry)
ESP_ENTRY(IQ3_S, ScaledEntry)
ESP_ENTRY(IQ3_XXS, ScaledEntry)
ESP_ENTRY(IQ2_XXS, ScaledEntry)
ESP_ENTRY(IQ2_XS, SixteenWideEntry)
ESP_ENTRY(IQ2_S, SixteenWideEntry)
ESP_ENTRY(IQ1_M_32, SixteenWideEntry)
ESP_ENTRY(IQ1_S, ScaledEntry)
ESP_ENTRY(IQ1_M, SixteenWideEntry)
ESP_ENTRY(IQ4_XS, ScaledEntry)
ESP_ENTRY(Q4_1, PlainMinEntry)
ESP_ENTRY(Q5_1, PlainMinEntry)
ESP_ENTRY(Q2_K, SixteenWideMinEntry)
ESP_ENTRY(Q3_K, SixteenWideEntry)
ESP_ENTRY(Q4_K, ScaledMinEntry)
ESP_ENTRY(Q5_K, ScaledMinEntry)
#undef ESP_ENTRY
template <class T>
using Entry = typename EntryOf<T>::Entry;

// Members that a type does not use stay unset and cost nothing.
struct DecodedBlock {
    I32 w[8];       // u8 panel vectors; 3INST: the high bytes of value + 32768
    I32 w_low[8];   // 3INST: the low bytes (zero point 0)
    F32 s;          // integer scale as float (row-scaled types), else the block's d
    I32 scale_code; // kScaleTable: 0..15
    I32 scale[2];   // kIntScale: of columns 0..15 and 16..31
    I32 min[2];     // kMin, likewise
    F32 minus_dmin;
};

static inline I32 splat_bytes(int x) { return splat(static_cast<int32_t>(0x01010101u * static_cast<uint32_t>(x & 255))); }
static inline F32 half_lanes(const uint8_t* p) { return load_f16(reinterpret_cast<const uint16_t*>(p)); }

// The scales of 32-block i of types with one per 16 columns: two runs of a byte a row.
static inline void scale_pair(const uint8_t* scales, int i, DecodedBlock& out) {
    out.scale[0] = widen_s8(scales + 32 * i);
    out.scale[1] = widen_s8(scales + 32 * i + 16);
}

// Bit kFrom of every lane moved to bit kTo, and the others with it.
template <int kFrom, int kTo>
static inline I32 move_bits(I32 x) {
    if constexpr (kFrom > kTo) return shift_right<kFrom - kTo>(x);
    if constexpr (kFrom < kTo) return shift_left<kTo - kFrom>(x);
    return x;
}

// Bits of a code plane for panel vector V = 0..7, moved to bit kTo of every byte.
template <int kBits, int V, int kTo>
static inline I32 plane_bits(const uint8_t* plane) {
    constexpr int kPerVector = 8 / kBits;
    const I32 x = load_bytes(plane + V / kPerVector * 64);
    return bit_and(move_bits<kBits * (V % kPerVector), kTo>(x), splat_bytes(((1 << kBits) - 1) << kTo));
}

template <int V>
static inline I32 five_bits(const uint8_t* low, const uint8_t* high) {
    return bit_or(plane_bits<4, V, 0>(low), plane_bits<1, V, 4>(high));
}

// Six bits around 32, moved to the common zero point.
template <int V>
static inline I32 six_bits(const uint8_t* low, const uint8_t* high) {
    return add_bytes(bit_or(plane_bits<4, V, 0>(low), plane_bits<2, V, 4>(high)), splat_bytes(128 - 32));
}

// A table for lookup(): sixteen entries + 128, the zero point of the weights.
struct CentredTable {
    uint8_t v[16];
};
template <int kEntries>
constexpr CentredTable centred(const int8_t* table) {
    CentredTable t{};
    for (int i = 0; i < 16; ++i) t.v[i] = static_cast<uint8_t>((i < kEntries ? table[i] : 0) + 128);
    return t;
}

static constexpr CentredTable kCentred4 = centred<16>(kTable4);

// f(V) for V = 0..7 as compile-time constants.
template <int V>
struct Index {
    static constexpr int value = V;
};
template <class F>
static inline __attribute__((always_inline)) void for_each_vector(F f) {
    f(Index<0>{}), f(Index<1>{}), f(Index<2>{}), f(Index<3>{});
    f(Index<4>{}), f(Index<5>{}), f(Index<6>{}), f(Index<7>{});
}
// f(G) for the four groups of eight columns.
template <class F>
static inline __attribute__((always_inline)) void for_each_group(F f) {
    f(Index<0>{}), f(Index<1>{}), f(Index<2>{}), f(Index<3>{});
}

}  // namespace espalier::ESPALIER_TIER
