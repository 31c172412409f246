// Sixteen cached rows on their side: where rows lie one by one, scores want one number of sixteen rows in the lanes.
#pragma once

#include "cpu/attention_rows.h"

namespace espalier::ESPALIER_TIER {

// [width_padded][16] float32, which is exact; what score_keys reads where keys of a paged cache lie in blocks.
struct TurnedRows {
    struct NoScale {};
    static NoScale key_scale(const CachedHead&, int64_t, int64_t) { return {}; }
    static F32 load(const CachedHead& keys, int64_t at, NoScale) {
        return espalier::ESPALIER_TIER::load(reinterpret_cast<const float*>(keys.data) + at);
    }
};

template <class C>
static CachedHead turn_rows(const CachedHead* from, int64_t width_padded, float* turned) {
    for (int64_t d = 0; d < width_padded; d += 16) {
        F32 rows[16];
        for (int i = 0; i < 16; ++i) rows[i] = C::load_values(from[i], d);
        transpose(rows);
        for (int i = 0; i < 16; ++i) store(turned + (d + i) * 16, rows[i]);
    }
    return {reinterpret_cast<uint8_t*>(turned), nullptr};
}

}  // namespace espalier::ESPALIER_TIER
