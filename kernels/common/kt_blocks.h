// The KT types: trellis indices, one integer scale per 32 weights, float32 d per row. Drawn in docs/kt_format.md.
// Rule of all: kRowScale, s_b = the 32-block's integer scale, D = row_d * gain. Layouts are shared by the integer
// and the 3INST (V1) generation; only the generator, the row header and the gains differ.
#pragma once

#include "block32.h"
#include "trellis.h"

namespace espalier {

// Scale codes of IQ2_KT and IQ3_KT: bytes 0..3, 32-blocks 0..3 in the low nibbles and 4..7 in the high.
ESP_FN int kt_scale_code(const uint8_t* block, int b) { return nibble(block[b & 3], b >> 2); }

// The stored sign of weight j, on the magnitude that the generator gave.
ESP_FN void apply_sign(int j, int negative, Block32& out) {
    const int magnitude = out.q[j] < 0 ? -out.q[j] : out.q[j];
    out.q[j] = int16_t(negative ? -magnitude : magnitude);
    out.minus_zeros |= uint32_t(magnitude == 0 && negative) << j;
}

struct IQ1_KT : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 56;
    static constexpr int kGroupWeights = 8;
    using Trellis = IntegerTrellis;

    static ESP_FN int scale(const uint8_t* block, int b) { return kTable4[block[b] & 15]; }

    // 13-bit index of group g = 0..31
    static ESP_FN uint32_t index(const uint8_t* block, int g) {
        const uint32_t high = nibble(block[40 + (g & 15)], g >> 4);
        return block[8 + g] | high << 8 | uint32_t(bit(block[g >> 2], 4 + (g & 3))) << 12;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        for (int i = 0; i < 4; ++i) generate<Trellis>(index(block, 4 * b + i) + kTrellisOffset, 8, out.q + 8 * i);
    }
};

// Fields of IQ2_KT blocks, both generations.
template <class TrellisType>
struct IQ2_KT_Layout : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 68;
    static constexpr int kGroupWeights = 8;
    static constexpr float kValueStep = TrellisType::kValueStep;
    using Trellis = TrellisType;

    static ESP_FN int scale(const uint8_t* block, int b) { return kTable4[kt_scale_code(block, b)]; }

    // 16-bit index of group g = 0..31
    static ESP_FN uint32_t index(const uint8_t* block, int g) { return read_u16(block + 4 + 2 * g); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        for (int i = 0; i < 4; ++i) generate<Trellis>(index(block, 4 * b + i) + kTrellisOffset, 8, out.q + 8 * i);
    }
};

// Fields of IQ3_KT blocks, both generations. The generator gives magnitudes; signs are stored.
template <class TrellisType>
struct IQ3_KT_Layout : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 100;
    static constexpr int kGroupWeights = 8;
    static constexpr float kValueStep = TrellisType::kValueStep;
    using Trellis = TrellisType;

    static ESP_FN int scale(const uint8_t* block, int b) { return kt_scale_code(block, b); }
    static ESP_FN uint32_t index(const uint8_t* block, int g) { return read_u16(block + 4 + 2 * g); }

    // 1: weight j = 0..31 of 32-block b is negative
    static ESP_FN int sign(const uint8_t* block, int b, int j) { return bit(block[68 + j], b); }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        for (int i = 0; i < 4; ++i) generate<Trellis>(index(block, 4 * b + i) + kTrellisOffset, 8, out.q + 8 * i);
        for (int j = 0; j < 32; ++j) apply_sign(j, sign(block, b, j), out);
    }
};

// Fields of IQ4_KT blocks, both generations. Groups of 4 weights; each 32-block chooses its offset.
template <class TrellisType>
struct IQ4_KT_Layout : RowScaledType {
    static constexpr int kBlockWeights = 256;
    static constexpr int kBlockBytes = 128;
    static constexpr int kGroupWeights = 4;
    static constexpr float kValueStep = TrellisType::kValueStep;
    using Trellis = TrellisType;

    // The word of 32-block b: bit 0 offset, bits 1-7 scale + 64, bits 8-31 three high index bits for each group
    static ESP_FN uint32_t word(const uint8_t* block, int b) { return read_u32(block + 4 * b); }
    static ESP_FN uint32_t offset_of(uint32_t word) { return bit(word, 0) ? kTrellisOffsetHigh : kTrellisOffset; }
    static ESP_FN int scale_of(uint32_t word) { return int(word >> 1 & 127u) - 64; }
    static ESP_FN uint32_t high_of(uint32_t word, int i) { return word >> (8 + 3 * i) & 7u; }
    static ESP_FN uint32_t offset(const uint8_t* block, int b) { return offset_of(word(block, b)); }
    static ESP_FN int scale(const uint8_t* block, int b) { return scale_of(word(block, b)); }

    // 15-bit index of group g = 0..63
    static ESP_FN uint32_t index(const uint8_t* block, int g) {
        const uint32_t middle = nibble(block[96 + (g & 31)], g >> 5);
        const uint32_t high = high_of(word(block, g >> 3), g & 7);
        return block[32 + g] | middle << 8 | high << 12;
    }

    static ESP_FN void decode(const uint8_t* block, int b, Block32& out) {
        set_row_scale(scale(block, b), out);
        const uint32_t start = offset(block, b);
        for (int i = 0; i < 8; ++i) generate<Trellis>(index(block, 8 * b + i) + start, 4, out.q + 4 * i);
    }
};

struct IQ2_KT : IQ2_KT_Layout<IntegerTrellis> {
    static constexpr float kGain = kGainIQ2KT;
};

struct IQ3_KT : IQ3_KT_Layout<IntegerTrellis> {
    static constexpr float kGain = kGainIQ3KT;

    // A tail of t 32-blocks: u16 index[4 t]; sign bytes [4 t], bit k of byte g for weight k of group g; scales, two a byte.
    static constexpr int kTailNibbles = 25;
    static ESP_FN int tail_scale(const uint8_t* tail, int t, int b) { return nibble(tail[12 * t + (b >> 1)], b & 1); }
    static ESP_FN uint32_t tail_index(const uint8_t* tail, int g) { return read_u16(tail + 2 * g); }
    static ESP_FN int tail_sign(const uint8_t* tail, int t, int b, int j) {
        return bit(tail[8 * t + 4 * b + (j >> 3)], j & 7);
    }

    static ESP_FN void decode_tail(const uint8_t* tail, int t, int b, Block32& out) {
        set_row_scale(tail_scale(tail, t, b), out);
        for (int i = 0; i < 4; ++i) generate<Trellis>(tail_index(tail, 4 * b + i) + kTrellisOffset, 8, out.q + 8 * i);
        for (int j = 0; j < 32; ++j) apply_sign(j, tail_sign(tail, t, b, j), out);
    }
};

struct IQ4_KT : IQ4_KT_Layout<IntegerTrellis> {
    // A tail: for each 32-block its word, then low[8] and middle[4], two groups a byte.
    static constexpr int kTailNibbles = 32;
    static ESP_FN uint32_t tail_word(const uint8_t* tail, int b) { return read_u32(tail + 16 * b); }
    static ESP_FN uint32_t tail_offset(const uint8_t* tail, int b) { return offset_of(tail_word(tail, b)); }
    static ESP_FN int tail_scale(const uint8_t* tail, int b) { return scale_of(tail_word(tail, b)); }
    static ESP_FN uint32_t tail_index(const uint8_t* tail, int g) {
        const uint8_t* fields = tail + 16 * (g >> 3);
        const int i = g & 7;
        return fields[4 + i] | uint32_t(nibble(fields[12 + (i >> 1)], i & 1)) << 8 | high_of(tail_word(tail, g >> 3), i) << 12;
    }

    static ESP_FN void decode_tail(const uint8_t* tail, int, int b, Block32& out) {
        set_row_scale(tail_scale(tail, b), out);
        const uint32_t start = tail_offset(tail, b);
        for (int i = 0; i < 8; ++i) generate<Trellis>(tail_index(tail, 8 * b + i) + start, 4, out.q + 4 * i);
    }
};

// 3INST: q = v * 8192, and the stored d stands under the constant 31.75.
struct IQ2_KT_V1 : IQ2_KT_Layout<ThreeInstTrellis> {
    static constexpr float kGain = kGainIQ2KTV1;
    static ESP_FN float row_d(const uint8_t* row) { return read_f32(row) * kThreeInstScale; }
};

struct IQ3_KT_V1 : IQ3_KT_Layout<ThreeInstTrellis> {
    static constexpr float kGain = kGainIQ3KTV1;
    static ESP_FN float row_d(const uint8_t* row) { return read_f32(row) * kThreeInstScale; }
};

// The row header holds d, then the row's mean, which is added to every weight; the gain is on the d part only.
struct IQ4_KT_V1 : IQ4_KT_Layout<ThreeInstTrellis> {
    static constexpr int kHeaderBytes = 8;
    static constexpr bool kHasMean = true;
    static constexpr float kGain = kGainIQ4KTV1;
    static ESP_FN float row_d(const uint8_t* row) { return read_f32(row) * kThreeInstScale; }
    static ESP_FN float row_mean(const uint8_t* row) { return read_f32(row + 4); }
};

}  // namespace espalier
