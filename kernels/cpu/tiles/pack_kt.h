// The KT types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(IQ1_KT, const uint8_t* block, int row, uint8_t* unit) {
    using L = Tile<IQ1_KT>;
    for (int b = 0; b < 8; ++b) {
        const uint32_t i0 = IQ1_KT::index(block, 4 * b), i1 = IQ1_KT::index(block, 4 * b + 1);
        const uint32_t i2 = IQ1_KT::index(block, 4 * b + 2), i3 = IQ1_KT::index(block, 4 * b + 3);
        put_u32(unit + L::kLow + 64 * b + 4 * row, i0 | i1 << 13 | i3 << 26);
        put_u16(unit + L::kMid + 32 * b + 2 * row, i2 | (i3 >> 6 & 7u) << 13);
        unit[L::kTop + 16 * b + row] = uint8_t((block[b] & 15u) | i3 >> 9 << 4);
    }
}

template <class T>
inline void pack_groups_of_8(const uint8_t* block, int row, uint8_t* unit) {
    for (int g = 0; g < 32; ++g) put_u16(unit + Tile<T>::kIndex + 32 * g + 2 * row, T::index(block, g));
    for (int b = 0; b < 8; ++b) unit[Tile<T>::kScale + 16 * b + row] = uint8_t(kt_scale_code(block, b));
}

template <class Trellis>
inline void pack_unit(IQ2_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    pack_groups_of_8<IQ2_KT>(block, row, unit);
}

template <class Trellis>
inline void pack_unit(IQ3_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    pack_groups_of_8<IQ3_KT>(block, row, unit);
    for (int b = 0; b < 8; ++b)
        for (int j = 0; j < 32; ++j) put_code<1>(unit + TileIQ3KT::kSign, b, row, j, IQ3_KT::sign(block, b, j));
}

// The last unit of a row with a tail of n 32-blocks (tiles/layout.h).
inline void pack_row_tail(IQ3_KT, const uint8_t* tail, int n, int row, uint8_t* unit) {
    for (int g = 0; g < 4 * n; ++g) put_u16(unit + TileIQ3KT::kIndex + 32 * g + 2 * row, IQ3_KT::tail_index(tail, g));
    for (int b = 0; b < n; ++b) {
        unit[TileIQ3KT::kScale / 8 * n + 16 * b + row] = uint8_t(IQ3_KT::tail_scale(tail, n, b));
        for (int j = 0; j < 32; ++j)
            put_code<1>(unit + TileIQ3KT::kSign / 8 * n, b, row, j, IQ3_KT::tail_sign(tail, n, b, j));
    }
}

inline void pack_row_tail(IQ4_KT, const uint8_t* tail, int n, int row, uint8_t* unit) {
    for (int g = 0; g < 8 * n; ++g) {
        const uint32_t state = IQ4_KT::tail_index(tail, g) + IQ4_KT::tail_offset(tail, g / 8) - kTrellisOffset;
        put_u16(unit + TileIQ4KT::kIndex + 32 * g + 2 * row, state);
    }
    for (int b = 0; b < n; ++b) unit[TileIQ4KT::kScale / 8 * n + 16 * b + row] = uint8_t(IQ4_KT::tail_scale(tail, b));
}

template <class Trellis>
inline void pack_unit(IQ4_KT_Layout<Trellis>, const uint8_t* block, int row, uint8_t* unit) {
    using L = TileIQ4KT;
    for (int g = 0; g < 64; ++g) {
        // The state index + 4096 + 32768 * bit equals (index | bit << 15) + 4096.
        const uint32_t state = IQ4_KT::index(block, g) + IQ4_KT::offset(block, g / 8) - kTrellisOffset;
        put_u16(unit + L::kIndex + 32 * g + 2 * row, state);
    }
    for (int b = 0; b < 8; ++b) unit[L::kScale + 16 * b + row] = uint8_t(IQ4_KT::scale(block, b));
}

}  // namespace espalier
