// The KT types: trellis indices, one integer scale per 32 weights, float32 d per row. Drawn in docs/kt_format.md.
// Rule of all: kRowScale, s_b = the 32-block's integer scale, D = row_d * gain. Layouts are shared by the integer
// and the 3INST (V1) generation; only the generator, the row header and the gains differ.
#pragma once

#include "block32.h"
#include "trellis.h"

namespace espalier {

// Scale codes of IQ2_KT and IQ3_KT: bytes 0..3, 32-blocks 0..3 in the low nibbles and 4..7 in the high.
ESP_FN int kt_scale_code(const uint8_t* block, int b) { return nibble(block[b & 3], b >> 2); }

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
        for (int j = 0; j < 32; ++j) {
            const int magnitude = out.q[j] < 0 ? -out.q[j] : out.q[j];
            out.q[j] = int16_t(sign(block, b, j) ? -magnitude : magnitude);
            out.minus_zeros |= uint32_t(magnitude == 0 && sign(block, b, j)) << j;
        }
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
    static ESP_FN uint32_t offset(const uint8_t* block, int b) {
        return bit(word(block, b), 0) ? kTrellisOffsetHigh : kTrellisOffset;
    }
    static ESP_FN int scale(const uint8_t* block, int b) { return int(word(block, b) >> 1 & 127u) - 64; }

    // 15-bit index of group g = 0..63
    static ESP_FN uint32_t index(const uint8_t* block, int g) {
        const uint32_t middle = nibble(block[96 + (g & 31)], g >> 5);
        const uint32_t high = word(block, g >> 3) >> (8 + 3 * (g & 7)) & 7u;
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
};

struct IQ4_KT : IQ4_KT_Layout<IntegerTrellis> {};

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
