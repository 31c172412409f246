// The table of one ISA tier (kernels.h), built from the kernels in this tier's namespace.
#pragma once

#include "cpu/linear_dense.h"
#include "cpu/linear_matmul.h"

namespace espalier::ESPALIER_TIER {

#if ESPALIER_TIER_ID == ESPALIER_SCALAR_TIER
static inline int byte_of(I32 x, int row, int c) { return reread<Bytes>(x).v[4 * row + c]; }

template <class T>
constexpr bool kHasSignPlane = false;
template <>
constexpr bool kHasSignPlane<IQ3_KT> = true;
template <>
constexpr bool kHasSignPlane<IQ3_KT_V1> = true;

// The integers of one row of a decoded 32-block, as kernels/common decodes them from the file.
template <class T>
static void unpack(const uint8_t* tile, int64_t n_blocks, int64_t b, int row, Block32& out) {
    using E = Entry<T>;
    constexpr int kUnit = Tile<T>::kUnitBlocks;
    const int64_t n_whole = whole_blocks<T>(n_blocks);
    const TileView view = view_tile<T>(tile, n_blocks, b < n_whole ? 8 : static_cast<int>(n_blocks - n_whole));
    DecodedBlock w;
    decode(T{}, view, b / kUnit, static_cast<int>(b % kUnit), w);
    for (int j = 0; j < 32; ++j) {
        const int code = byte_of(w.w[j / 4], row, j % 4) - (E::kCentred ? 128 : 0);
        out.q[j] = static_cast<int16_t>(E::kPlanes == 2 ? 256 * code + byte_of(w.w_low[j / 4], row, j % 4) : code);
    }
    constexpr bool kRowScale = T::kRule == Rule::kRowScale;
    const int only = kRowScale ? static_cast<int>(w.s.v[row]) : 1;
    for (int h = 0; h < 2; ++h) {
        const int part = E::kHalves == 2 ? h : 0;
        out.scale[h] = E::kIntScale ? w.scale[part].v[row] : only;
        out.min[h] = E::kMin ? w.min[part].v[row] : 0;
    }
    out.d = kRowScale ? 1.0f : w.s.v[row];
    out.dmin = E::kMin ? -w.minus_dmin.v[row] : 0.0f;
    out.minus_zeros = 0;
    if constexpr (kHasSignPlane<T>) {
        const uint8_t* signs = view.body + b / kUnit * Tile<T>::kUnitBytes + view.at(Tile<T>::kSign) + 64 * (b % kUnit);
        for (int j = 0; j < 32; ++j) {
            const bool negative = bit(signs[4 * row + j % 4], j / 4);
            out.minus_zeros |= static_cast<uint32_t>(out.q[j] == 0 && negative) << j;
        }
    }
}
#define ESP_UNPACK(name) unpack<name>
#else
#define ESP_UNPACK(name) nullptr
#endif

#define ESP_DENSE_ROW(name) {{nullptr, nullptr}, nullptr, nullptr, 0},
#define ESP_QUANT_ROW(name) {{matvec<name>, matvec_pair<name>}, matmul<name>, ESP_UNPACK(name), Panel<Entry<name>>::kBytes},
#define ESP_DENSE_KERNELS(name) {dense_matmul<espalier::name>},
#define ESP_QUANT_KERNELS(name) {nullptr},

static const KernelTable kTable = {
    ESPALIER_ISA_NAME,
    kColumnGroup,
    {quantize_vector<1>, quantize_vector<2>},
    {quantize_columns<1>, quantize_columns<2>},
    {ESP_DENSE_TYPES(ESP_DENSE_ROW) ESP_QUANT_TYPES(ESP_QUANT_ROW)},
    {ESP_DENSE_TYPES(ESP_DENSE_KERNELS) ESP_QUANT_TYPES(ESP_QUANT_KERNELS)},
};

#undef ESP_DENSE_ROW
#undef ESP_QUANT_ROW
#undef ESP_DENSE_KERNELS
#undef ESP_QUANT_KERNELS
#undef ESP_UNPACK

}  // namespace espalier::ESPALIER_TIER
