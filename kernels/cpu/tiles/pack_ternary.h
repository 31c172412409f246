// The ternary types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(TQ1_0, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<TQ1_0>;
    for (int j = 0; j < 52; ++j) unit[L::kDigits + 64 * (j / 4) + 4 * row + j % 4] = block[j];
    copy_lane_u16(unit + L::kD, row, block + 52);
}

inline void pack_unit(TQ2_0, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<TQ2_0, 2>(unit + Tile<TQ2_0>::kCode2, 0, block, row);
    copy_lane_u16(unit + Tile<TQ2_0>::kD, row, block + 64);
}

}  // namespace espalier
