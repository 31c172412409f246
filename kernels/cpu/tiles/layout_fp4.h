// Tiles of the types of four-bit floats (tiles/layout.h says what the planes are).
#pragma once

#include "cpu/tiles/layout_legacy.h"

namespace espalier {

template <>
struct Tile<MXFP4> : NibbleTile {
    static constexpr int kTailBytes = 16;  // the file's exponent byte a row
};

}  // namespace espalier
