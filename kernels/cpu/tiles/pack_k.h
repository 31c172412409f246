// The K types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

template <class T>
inline void pack_k_scales(const uint8_t* block, int row, uint8_t* unit) {
    for (int b = 0; b < 8; ++b) {
        unit[Tile<T>::kScale + 16 * b + row] = uint8_t(k_scale(block + 4, b));
        unit[Tile<T>::kMin + 16 * b + row] = uint8_t(k_min(block + 4, b));
    }
    copy_lane_u16(unit + Tile<T>::kD, row, block);
    copy_lane_u16(unit + Tile<T>::kDmin, row, block + 2);
}

inline void pack_unit(Q2_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<Q2_K>;
    pack_codes<Q2_K, 2>(unit + L::kCode2, 0, block, row);
    for (int i = 0; i < 16; ++i) unit[L::kScale + 16 * i + row] = block[i];
    copy_lane_u16(unit + L::kD, row, block + 80);
    copy_lane_u16(unit + L::kDmin, row, block + 82);
}

inline void pack_unit(Q3_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<Q3_K>;
    pack_codes<Q3_K, 2>(unit + L::kCode2, 0, block, row);
    pack_codes<Q3_K, 1>(unit + L::kCode1, 2, block, row);
    pack_scale_pairs<Q3_K>(block, row, unit);
    copy_lane_u16(unit + L::kD, row, block + 108);
}

inline void pack_unit(Q4_K, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q4_K, 4>(unit + Tile<Q4_K>::kCode4, 0, block, row);
    pack_k_scales<Q4_K>(block, row, unit);
}

inline void pack_unit(Q5_K, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q5_K, 4>(unit + Tile<Q5_K>::kCode4, 0, block, row);
    pack_codes<Q5_K, 1>(unit + Tile<Q5_K>::kCode1, 4, block, row);
    pack_k_scales<Q5_K>(block, row, unit);
}

inline void pack_unit(Q6_K, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<Q6_K>;
    pack_codes<Q6_K, 4>(unit + L::kCode4, 0, block, row);
    pack_codes<Q6_K, 2>(unit + L::kCode2, 4, block, row);
    pack_scale_pairs<Q6_K>(block, row, unit);
    copy_lane_u16(unit + L::kD, row, block + 208);
}

}  // namespace espalier
