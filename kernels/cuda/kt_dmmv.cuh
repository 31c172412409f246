// What the forms of DMMV share: y = W x for one to eight tokens of IQ1_KT .. IQ4_KT, straight from the trellis.
//   kt_dmmv_1.cuh      one token on the tensor cores    kt_dmmv_8.cuh   two to eight tokens on the tensor cores
//   kt_dmmv_dp4a.cuh   one token, dp4a                  (linear_plain.cuh: the plain form)
// A masked generator word is four bytes whose sum is a weight plus 126. So it is multiplied as it is, with its activation
// in all four bytes, and the 126 comes off by a start value of the sum, -126 times the activations' sum. IQ3_KT needs the
// magnitude of the sum first: there four sums are packed into a word, and a stored sign is an exclusive or: as a signed
// byte, ~m is -m - 1, so the activations under a minus are added once more by a second product.
// Sums start at the bits of 1.5 * 2^23 as a float: read as a float, less that number, they need no conversion.
// Parameters: linear_parts.cuh. Bound by integer instructions (two to multiply and mask a weight), not by memory.
#pragma once

#include "cuda/kt_tiles.cuh"
#include "cuda/linear_plain.cuh"

namespace espalier {

constexpr int kMagicBits = 0x4B400000;     // 1.5 * 2^23: integers below 2^22 added to the bits add to the value
constexpr float kMagic = 12582912.0f;

ESP_FN float from_magic(int sum) { return float_from_bits(uint32_t(sum)) - kMagic; }

// Where a dot over one block starts, from the sums of its activations: IQ3_KT's values need no centre.
template <class T>
ESP_FN int magic_start(int sums) {
    return KtPlane<T>::kSigned ? kMagicBits : kMagicBits - kTrellisCentre * sum_of_all(sums);
}

// The activation of column 8 t + k in all four bytes. words: the lane's eight columns.
ESP_FN uint32_t replicated(const uint32_t (&words)[2], int k) { return byte_perm(words[k >> 2], 0, 0x1111u * (k & 3)); }

// Magnitudes of columns 8 t + 4 half .. + 3 as bytes, complemented where the sign is minus.
template <class T>
ESP_FN uint32_t signed_magnitudes(const KtPlane<T>& plane, int h, int i, int half, uint32_t signs) {
    uint32_t sums = dp4a_u8u8(kt_word<T>(plane, h, i, 4 * half + 3), 0x01010101u, 0);
#pragma unroll
    for (int k = 2; k >= 0; --k) sums = dp4a_u8u8(kt_word<T>(plane, h, i, 4 * half + k), 0x01010101u, sums << 8);
    return abs_diff_u8x4(sums, uint32_t(kTrellisCentre) * 0x01010101u) ^ signs * 255u;
}

// Scales as floats; types with a table keep entry `lane` of it in a register.
template <class T>
struct LaneScales {
    float entry;

    ESP_FN LaneScales() : entry(KtScaleRule<T>::kTable ? float(KtScaleRule<T>::value(threadIdx.x & 15)) : 0.0f) {}
    ESP_FN float value(const KtScales<T>& scales, int h, int i) const {
        if constexpr (KtScaleRule<T>::kTable) return shfl(entry, int(scales.from_code(h, i)));
        return float(KtScaleRule<T>::value(scales.code(h, i)));
    }
};

// The first tile of a block of threads, and where it stops: tiles beyond the matrix repeat its last one.
template <class T, int kTiles>
struct TileRows {
    const uint8_t* first[kTiles];

    ESP_FN TileRows(const KtTiles<T>& matrix, const Part& part) {
        const int last = (part.n_out - 1) / kTileRows;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) first[m] = matrix.tile(min(part.first_row / kTileRows + m, last), 0);
    }
    ESP_FN const uint8_t* tile(int m, int s) const { return first[m] + int64_t(s) * kt_tile_bytes<T>(); }
};

}  // namespace espalier
