// The IQ types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

template <class T>
inline void pack_signs(const uint8_t* block, int row, uint8_t* unit) {
    for (int b = 0; b < 8; ++b)
        for (int j = 0; j < 32; ++j) put_code<1>(unit + Tile<T>::kSign, b, row, j, T::sign(block, b, j));
}

// The low eight bits of the indices of kGroups groups.
template <class T, int kGroups>
inline void pack_low_indices(const uint8_t* block, int row, uint8_t* unit) {
    for (int g = 0; g < kGroups; ++g) unit[Tile<T>::kIndex + 16 * g + row] = uint8_t(T::index(block, g));
}

// kBits index bits above the low eight, for all groups one after another.
template <class T, int kGroups, int kBits>
inline void pack_high_indices(const uint8_t* block, int row, uint8_t* unit) {
    constexpr int kPerByte = 8 / kBits;
    for (int g = 0; g < kGroups; ++g) {
        uint8_t& high = unit[Tile<T>::kHigh + 16 * (g / kPerByte) + row];
        high = uint8_t(high | T::index(block, g) >> 8 << (kBits * (g % kPerByte)));
    }
}

// The codes of n scales 1 + 2 * code, two in a byte.
template <class T>
inline void pack_scale_codes(const uint8_t* block, int n, int row, uint8_t* unit) {
    for (int i = 0; i < n; i += 2) {
        const int low = T::scale(block, i) >> 1, high = T::scale(block, i + 1) >> 1;
        unit[Tile<T>::kScale + 16 * (i / 2) + row] = uint8_t(low | high << 4);
    }
}

inline void pack_unit(IQ2_XXS, const uint8_t* block, int row, uint8_t* unit) {
    pack_low_indices<IQ2_XXS, 32>(block, row, unit);
    pack_signs<IQ2_XXS>(block, row, unit);
    pack_scale_codes<IQ2_XXS>(block, 8, row, unit);
    copy_lane_u16(unit + Tile<IQ2_XXS>::kD, row, block);
}

inline void pack_unit(IQ2_XS, const uint8_t* block, int row, uint8_t* unit) {
    pack_low_indices<IQ2_XS, 32>(block, row, unit);
    pack_high_indices<IQ2_XS, 32, 1>(block, row, unit);
    pack_signs<IQ2_XS>(block, row, unit);
    pack_scale_codes<IQ2_XS>(block, 16, row, unit);
    copy_lane_u16(unit + Tile<IQ2_XS>::kD, row, block);
}

inline void pack_unit(IQ2_S, const uint8_t* block, int row, uint8_t* unit) {
    pack_low_indices<IQ2_S, 32>(block, row, unit);
    pack_high_indices<IQ2_S, 32, 2>(block, row, unit);
    pack_signs<IQ2_S>(block, row, unit);
    pack_scale_codes<IQ2_S>(block, 16, row, unit);
    copy_lane_u16(unit + Tile<IQ2_S>::kD, row, block);
}

inline void pack_unit(IQ3_XXS, const uint8_t* block, int row, uint8_t* unit) {
    pack_low_indices<IQ3_XXS, 64>(block, row, unit);
    pack_signs<IQ3_XXS>(block, row, unit);
    pack_scale_codes<IQ3_XXS>(block, 8, row, unit);
    copy_lane_u16(unit + Tile<IQ3_XXS>::kD, row, block);
}

inline void pack_unit(IQ3_S, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ3_S>;
    pack_low_indices<IQ3_S, 64>(block, row, unit);
    pack_high_indices<IQ3_S, 64, 1>(block, row, unit);
    pack_signs<IQ3_S>(block, row, unit);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = uint8_t(IQ3_S::scale(block, b));
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ4_NL, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<IQ4_NL, 4>(unit + Tile<IQ4_NL>::kCode4, 0, block, row);
}

inline void pack_unit(IQ4_XS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_XS>;
    pack_codes<IQ4_XS, 4>(unit + L::kCode4, 0, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = uint8_t(IQ4_XS::scale(block, b));
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ1_S, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ1_S>;
    pack_low_indices<IQ1_S, 32>(block, row, unit);
    for (int b = 0; b < 8; ++b) put_u16(unit + L::kWord + 32 * b + 2 * row, IQ1_S::word(block, b));
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ1_M, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ1_M>;
    pack_low_indices<IQ1_M, 32>(block, row, unit);
    for (int b = 0; b < 8; ++b) copy_lane_u16(unit + L::kWord + 32 * b, row, block + 32 + 2 * b);
    pack_scale_codes<IQ1_M>(block, 16, row, unit);
    put_u16(unit + L::kD + 2 * row, IQ1_M::d_bits(block));
}

inline void pack_unit(IQ1_S_32, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ1_S_32>;
    pack_low_indices<IQ1_S_32, 4>(block, row, unit);
    put_u16(unit + L::kWord + 2 * row, IQ1_S_32::word(block));
}

inline void pack_unit(IQ1_M_32, const uint8_t* block, int row, uint8_t* unit) {
    pack_low_indices<IQ1_M_32, 4>(block, row, unit);
    copy_lane_u16(unit + Tile<IQ1_M_32>::kWord, row, block + 4);
}
inline void pack_tail(IQ1_M_32, const uint8_t* block, int row, uint8_t* tail) { tail[row] = block[6]; }

}  // namespace espalier
