// Every number of the tensor formats, each written once; grids are in tables_grids.h. C++ includes these files;
// kernels/reference/tables.py reads their text, so keep the form: `ESP_NUMBER type name = value;` and `ESP_TABLE type name[n] = {values};`.
#pragma once

#include "portability.h"

namespace espalier {

// The integer trellis (KT since June 2025): x <- x * multiplier; value = sum of the bytes of (x AND mask) - centre.
ESP_NUMBER uint32_t kTrellisMultiplier = 0xCBAC1FEDu;
ESP_NUMBER uint32_t kTrellisMask = 0x3F3F3F3Fu;
ESP_NUMBER int32_t kTrellisCentre = 126;

// The 3INST trellis (KT of May and June 2025): x <- x * multiplier + increment; s = (x AND keep) XOR flip;
// value = f16(low half of s) + f16(high half of s), always a multiple of 1/8192.
ESP_NUMBER uint32_t kThreeInstMultiplier = 89226354u;
ESP_NUMBER uint32_t kThreeInstIncrement = 64248484u;
ESP_NUMBER uint32_t kThreeInstKeep = 0x8FFF8FFFu;
ESP_NUMBER uint32_t kThreeInstFlip = 0x3B603B60u;
ESP_NUMBER float kThreeInstStep = 0.0001220703125f;  // 2^-13
ESP_NUMBER float kThreeInstScale = 31.75f;           // stands above the row's d

// Added to a stored index to start a generator. IQ4_KT's offset bit chooses between the two.
ESP_NUMBER uint32_t kTrellisOffset = 4096u;
ESP_NUMBER uint32_t kTrellisOffsetHigh = 36864u;

// What a linear operation multiplies the row's d by, and an embedding row does not (docs/kt_format.md, "gains").
ESP_NUMBER float kGainIQ2KT = 1.05f;
ESP_NUMBER float kGainIQ3KT = 1.01f;
ESP_NUMBER float kGainIQ2KTV1 = 1.05f;
ESP_NUMBER float kGainIQ3KTV1 = 1.015f;
ESP_NUMBER float kGainIQ4KTV1 = 1.01f;

// Non-linear codes. Rows of two: plain, then shifted; a block's extra bit chooses. The first half of kTable4
// is also the scale table of IQ1_KT and IQ2_KT, and the values of IQ4_NL and IQ4_XS; kTable6 is a cubic, rounded
// (IQ6_K; linears use the table).
ESP_TABLE int8_t kTable2[8] = {-31, -13, 1, 17, -26, -8, 6, 22};
ESP_TABLE int8_t kTable3[16] = {
    -63, -40, -23, -10, 1, 13, 28, 47,
    -59, -36, -19, -6, 5, 17, 32, 51};
ESP_TABLE int8_t kTable4[32] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    -123, -100, -79, -61, -45, -31, -18, -6, 5, 17, 29, 42, 57, 73, 93, 117};
ESP_TABLE int8_t kTable5[64] = {
    -126, -114, -103, -92, -83, -74, -65, -57, -50, -43, -36, -30, -24, -18, -12, -6,
    -1, 5, 11, 17, 23, 29, 36, 43, 51, 59, 68, 77, 87, 97, 109, 121,
    -124, -112, -101, -90, -81, -72, -63, -55, -48, -41, -34, -28, -22, -16, -10, -4,
    1, 7, 13, 19, 25, 31, 38, 45, 53, 61, 70, 79, 89, 99, 111, 123};
ESP_TABLE int8_t kTable6[128] = {
    -127, -121, -115, -109, -104, -98, -93, -88, -84, -79, -74, -70, -66, -62, -58, -54,
    -51, -47, -44, -40, -37, -34, -31, -28, -25, -22, -19, -16, -13, -11, -8, -5,
    -2, 0, 3, 6, 9, 12, 14, 17, 20, 23, 27, 30, 33, 36, 40, 44,
    47, 51, 55, 59, 63, 68, 72, 77, 82, 87, 92, 98, 103, 109, 115, 121,
    -126, -120, -114, -108, -103, -97, -92, -87, -83, -78, -73, -69, -65, -61, -57, -53,
    -50, -46, -43, -39, -36, -33, -30, -27, -24, -21, -18, -15, -12, -10, -7, -4,
    -1, 1, 4, 7, 10, 13, 15, 18, 21, 24, 28, 31, 34, 37, 41, 45,
    48, 52, 56, 60, 64, 69, 73, 78, 83, 88, 93, 99, 104, 110, 116, 122};
// IQ2_KL: two weights a code; the 32 first ones, then the 32 second ones.
ESP_TABLE int8_t kTableKL[64] = {
    -63, -63, -40, -40, -40, -40, -23, -23, -23, -23, -23, -10, -10, -10, -10, 1,
    1, 1, 1, 1, 13, 13, 13, 13, 13, 28, 28, 28, 28, 28, 47, 47,
    -23, 13, -63, -10, 13, 47, -40, -23, 1, 13, 28, -63, 1, 13, 47, -23,
    -10, 1, 13, 28, -40, -23, -10, 1, 13, -63, -23, 1, 28, 47, -23, 13};

// Magnitudes of the IQ types' grid codes (tables_grids.h).
ESP_TABLE int8_t kMagnitudesIQ2[3] = {8, 25, 43};
ESP_TABLE int8_t kMagnitudesIQ3XXS[8] = {4, 12, 20, 28, 36, 44, 52, 62};
ESP_TABLE int8_t kMagnitudesIQ3S[8] = {1, 3, 5, 7, 9, 11, 13, 15};

// Four-bit floats (sign, two bits of exponent, one of mantissa), doubled. The code of -0 is a plain zero.
ESP_NUMBER float kLargestFP4 = 12.0f;
ESP_TABLE int8_t kTableFP4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Multiplying a byte of five base-3 digits by power n moves digit n to its top (TQ1_0).
ESP_TABLE uint8_t kPowersOf3[5] = {1, 3, 9, 27, 81};

}  // namespace espalier
