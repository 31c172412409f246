// The 32-wide types' blocks into the lanes of a tile (tiles/pack.h).
#pragma once

#include "cpu/tiles/lanes.h"

namespace espalier {

inline void pack_unit(Q4_0, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q4_0, 4>(unit + Tile<Q4_0>::kCode4, 0, block, row);
}

inline void pack_unit(Q4_1, const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<Q4_1, 4>(unit + Tile<Q4_1>::kCode4, 0, block, row);
}

template <class T>
inline void pack_five_bits(const uint8_t* block, int row, uint8_t* unit) {
    pack_codes<T, 4>(unit + Tile<T>::kCode4, 0, block, row);
    pack_codes<T, 1>(unit + Tile<T>::kCode1, 4, block, row);
}
inline void pack_unit(Q5_0, const uint8_t* block, int row, uint8_t* unit) { pack_five_bits<Q5_0>(block, row, unit); }
inline void pack_unit(Q5_1, const uint8_t* block, int row, uint8_t* unit) { pack_five_bits<Q5_1>(block, row, unit); }

inline void pack_unit(Q8_0, const uint8_t* block, int row, uint8_t* unit) {
    for (int j = 0; j < 32; ++j) put_code<8>(unit + Tile<Q8_0>::kCode8, 0, row, j, Q8_0::value(block, j) + 128);
}

inline void pack_unit(Q6_0, const uint8_t* block, int row, uint8_t* unit) {
    for (int j = 0; j < 32; ++j) {
        const int code = Q6_0::value(block, j) + 32;
        put_code<4>(unit + Tile<Q6_0>::kCode4, 0, row, j, code & 15);
        put_code<2>(unit + Tile<Q6_0>::kCode2, 0, row, j, code >> 4);
    }
}

}  // namespace espalier
