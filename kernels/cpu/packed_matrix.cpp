// Packing and unpacking of row-lane tiles, and the memory they live in. Compiled for the baseline.
#include "cpu/packed_matrix.h"

#include <stdexcept>
#include <string>

#include "common/dequantize.h"
#include "cpu/tiles/pack.h"

namespace espalier {
namespace {

// What packing needs to know of a type, without its template.
struct PackingOf {
    bool dense;
    int64_t row_multiple;  // weights of a row are a multiple of this
    int64_t (*file_row_bytes)(int64_t n_in);
    int64_t (*tile_bytes)(int64_t n_in);
    void (*pack_row)(const uint8_t* file_row, int64_t n_in, int row, uint8_t* tile);
    void (*dequantize_row)(const uint8_t* tile, int64_t n_in, int row, float* out);
};

template <class T>
float row_factor(const uint8_t* tile, int row, int which) {
    return T::kRule == Rule::kRowScale ? read_f32(tile + 64 * which + 4 * row) : 0.0f;
}

template <class T>
void dequantize_lane(const uint8_t* tile, int64_t n_in, int row, float* out) {
    const auto unpack = kernels_scalar()->linear[int(T::kTypeId)].unpack;
    const float d = row_factor<typename T::Type>(tile, row, 0);
    const float mean = T::Type::kHasMean ? row_factor<typename T::Type>(tile, row, 1) : 0.0f;
    Block32 block;
    for (int64_t b = 0; b < n_in / 32; ++b) {
        unpack(tile, n_in / 32, b, row, block);
        dequantize_block32<typename T::Type>(block, d, mean, out + 32 * b);
    }
}

template <class T>
void dequantize_dense_lane(const uint8_t* tile, int64_t n_in, int row, float* out) {
    for (int64_t k = 0; k < n_in; ++k) out[k] = T::value(tile + (k * kTileRows + row) * T::kBytes);
}

template <class T, TensorType kType>
struct Named {
    using Type = T;
    static constexpr TensorType kTypeId = kType;
};

template <class T, TensorType kType>
constexpr PackingOf quant_packing() {
    return {false, kRowMultiple<T>, [](int64_t n) { return row_bytes<T>(n); },
            [](int64_t n) { return tile_bytes<T>(n / 32); }, pack_row<T>, dequantize_lane<Named<T, kType>>};
}

template <class T>
constexpr PackingOf dense_packing() {
    return {true, 1, [](int64_t n) { return n * T::kBytes; }, [](int64_t n) { return n * kTileRows * T::kBytes; },
            pack_dense_row<T>, dequantize_dense_lane<T>};
}

const PackingOf kPacking[kTypeCount] = {
#define ESP_ROW(name) dense_packing<name>(),
    ESP_DENSE_TYPES(ESP_ROW)
#undef ESP_ROW
#define ESP_ROW(name) quant_packing<name, TensorType::name>(),
        ESP_QUANT_TYPES(ESP_ROW)
#undef ESP_ROW
};

const PackingOf& packing_of(TensorType type) { return kPacking[int(type)]; }

}  // namespace

PackedMatrix::PackedMatrix(TensorType type, int64_t n_out, int64_t n_in) : type_(type), view_{} {
    const PackingOf& packing = packing_of(type);
    if (n_out < 1 || n_in < 1 || n_in % packing.row_multiple != 0) {
        throw std::invalid_argument(std::string("a ") + kTensorTypeNames[int(type)] + " matrix has rows of a multiple of " +
                                    std::to_string(packing.row_multiple) + " weights, not " + std::to_string(n_in));
    }
    view_ = {nullptr, packing.tile_bytes(n_in), n_out, n_in};
    file_row_bytes_ = packing.file_row_bytes(n_in);
    memory_ = GuardedMemory(nbytes());
    view_.tiles = memory_.data();
}

bool PackedMatrix::is_dense() const { return packing_of(type_).dense; }

void PackedMatrix::pack_tile(int64_t tile, const uint8_t* file_rows, int64_t n_rows) {
    const auto pack = packing_of(type_).pack_row;
    uint8_t* out = memory_.data() + tile * view_.tile_bytes;
    for (int row = 0; row < n_rows; ++row) pack(file_rows + row * file_row_bytes_, view_.n_in, row, out);
}

void PackedMatrix::dequantize_row(int64_t row, float* out) const {
    const uint8_t* tile = view_.tiles + row / kTileRows * view_.tile_bytes;
    packing_of(type_).dequantize_row(tile, view_.n_in, int(row % kTileRows), out);
}

}  // namespace espalier
