// The IQ types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(IQ3_S, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ3_S>;
    for (int g = 0; g < 64; ++g) {
        const int index = IQ3_S::index(block, g);
        unit[L::kIndex + 16 * g + row] = uint8_t(index);
        uint8_t& high = unit[L::kHigh + 16 * (g / 8) + row];
        high = uint8_t(high | index >> 8 << (g % 8));
    }
    for (int b = 0; b < 8; ++b) {
        for (int j = 0; j < 32; ++j) put_code<1>(unit + L::kSign, b, row, j, IQ3_S::sign(block, b, j));
        unit[L::kScale + 16 * b + row] = uint8_t(IQ3_S::scale(block, b));
    }
    copy_lane_u16(unit + L::kD, row, block);
}

}  // namespace espalier
