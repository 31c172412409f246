// The blocks of four-bit floats into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(MXFP4, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<MXFP4, 4>(unit + Tile<MXFP4>::kCode4, 0, block, row);
}
inline void pack_tail(MXFP4, const uint8_t* block, int row, uint8_t* tail) { tail[row] = block[0]; }

}  // namespace espalier
