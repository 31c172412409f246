// A tile's fields, by type: Tile<T>, specialized for each family in layout_*.h.
#pragma once

#include "common/tensor_types.h"

namespace espalier {

constexpr int kTileRows = 16;

template <class T>
struct Tile;

// Offsets inside a unit. `[b]` with its stride: the part of 32-block b = 0..7.
struct SuperBlockTile {
    static constexpr int kUnitBlocks = 8, kTailBytes = 0;
};

}  // namespace espalier
