// The IQK types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(IQ2_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ2_K>;
    pack_codes<IQ2_K, 2>(unit + L::kCode2, 0, block, row);
    for (int b = 0; b < 8; ++b) {
        const int low = IQ2_K::scale(block, 2 * b) + 8, high = IQ2_K::scale(block, 2 * b + 1) + 8;
        unit[L::kScale + 16 * b + row] = uint8_t(low | high << 4);
    }
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ3_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ3_K>;
    pack_codes<IQ3_K, 2>(unit + L::kCode2, 0, block, row);
    pack_codes<IQ3_K, 1>(unit + L::kCode1, 2, block, row);
    pack_scale_pairs<IQ3_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ4_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_K>;
    pack_codes<IQ4_K, 4>(unit + L::kCode4, 0, block, row);
    pack_scale_pairs<IQ4_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ5_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ5_K>;
    pack_codes<IQ5_K, 4>(unit + L::kCode4, 0, block, row);
    pack_codes<IQ5_K, 1>(unit + L::kCode1, 4, block, row);
    pack_scale_pairs<IQ5_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

inline void pack_unit(IQ6_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ6_K>;
    pack_codes<IQ6_K, 4>(unit + L::kCode4, 0, block, row);
    pack_codes<IQ6_K, 2>(unit + L::kCode2, 4, block, row);
    pack_scale_pairs<IQ6_K>(block, row, unit);
    copy_lane_u16(unit + L::kExtra, row, block + 2);
    copy_lane_u16(unit + L::kD, row, block);
}

// Scale + 16 and the table half of the f16 KS types in one byte.
template <class T>
inline void pack_scales_and_halves(const uint8_t* block, int row, uint8_t* unit) {
    for (int b = 0; b < 8; ++b) {
        unit[Tile<T>::kScale + 16 * b + row] = uint8_t((T::scale(block, b) + 16) | T::extra(block, b) << 5);
    }
}

inline void pack_unit(IQ2_KS, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<IQ2_KS, 2>(unit + Tile<IQ2_KS>::kCode2, 0, block, row);
    pack_scales_and_halves<IQ2_KS>(block, row, unit);
}

inline void pack_unit(IQ3_KS, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<IQ3_KS, 2>(unit + Tile<IQ3_KS>::kCode2, 0, block, row);
    pack_codes<IQ3_KS, 1>(unit + Tile<IQ3_KS>::kCode1, 2, block, row);
    pack_scales_and_halves<IQ3_KS>(block, row, unit);
}

inline void pack_unit(IQ2_KL, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ2_KL>;
    for (int b = 0; b < 8; ++b) {
        for (int p = 0; p < 16; ++p) {
            const int code = IQ2_KL::pair_code(block, b, p), v = p / 2, half = p % 2;
            uint8_t& low = unit[L::kPair4 + 128 * b + 64 * (v / 4) + 4 * row + 2 * half + v % 4 / 2];
            low = uint8_t(low | (code & 15) << (4 * (v % 2)));
            uint8_t& fifth = unit[L::kPair1 + 32 * b + 2 * row + half];
            fifth = uint8_t(fifth | code >> 4 << v);
        }
        unit[L::kScale + 16 * b + row] = uint8_t(IQ2_KL::scale(block, b));
    }
}

inline void pack_unit(IQ4_KSS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_KSS>;
    pack_codes<IQ4_KSS, 4>(unit + L::kCode4, 0, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = uint8_t(IQ4_KSS::scale_byte(block, b));
}

inline void pack_unit(IQ5_KS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ5_KS>;
    pack_codes<IQ5_KS, 4>(unit + L::kCode4, 0, block, row);
    pack_codes<IQ5_KS, 1>(unit + L::kCode1, 4, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = block[b];
}

inline void pack_unit(Q8_KV, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q8_KV, 8>(unit + Tile<Q8_KV>::kCode8, 0, block, row);
}

inline void pack_unit(IQ4_KS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_KS>;
    pack_codes<IQ4_KS, 4>(unit + L::kCode4, 0, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = block[b];
}

}  // namespace espalier
