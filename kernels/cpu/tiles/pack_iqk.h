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

inline void pack_unit(IQ4_KS, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ4_KS>;
    pack_codes<IQ4_KS, 4>(unit + L::kCode4, 0, block, row);
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = block[b];
}

}  // namespace espalier
