// The kernels of IQ1_KT, IQ2_KT, IQ3_KT or IQ4_KT (ESP_TYPE), whose weights lie in tiles.
#include "cuda/embed.cuh"
#include "cuda/kt_dmmv.cuh"
#include "cuda/kt_pack.cuh"
#include "cuda/linear_matmul.cuh"
#include "cuda/linear_plain.cuh"

namespace espalier {

using Weights = KtTiles<ESP_TYPE>;

extern "C" __global__ void __launch_bounds__(kWarp) kt_pack(const uint8_t* rows, int n_rows, int first_row, uint8_t* tiles,
                                                            int n_out, int n_in) {
    kt_pack_tile<ESP_TYPE>(rows, n_rows, first_row, tiles, n_out, n_in);
}

extern "C" __global__ void __launch_bounds__(kDmmvWarps * kWarp) kt_dmmv_1(ESP_LINEAR_PARAMETERS) {
    const Parts parts = ESP_LINEAR_PARTS;
    kt_dmmv_1_rows<ESP_TYPE>(part_of_block(parts, blockIdx.x, kDmmvRows), ESP_LINEAR_ACTIVATIONS);
}

// Four blocks a multiprocessor: left to itself the compiler aims at eight and spills in IQ3_KT.
extern "C" __global__ void __launch_bounds__(kPlanes * kWarp, 4) kt_dmmv_8(ESP_LINEAR_PARAMETERS) {
    const Parts parts = ESP_LINEAR_PARTS;
    kt_dmmv_8_rows<ESP_TYPE>(part_of_block(parts, blockIdx.x, kDmmvRows), ESP_LINEAR_ACTIVATIONS, blockIdx.y * kDmmvTokens);
}

extern "C" __global__ void __launch_bounds__(kDmmvTiles * kWarp) kt_dmmv_dp4a(ESP_LINEAR_PARAMETERS) {
    const Parts parts = ESP_LINEAR_PARTS;
    kt_dmmv_dp4a_rows<ESP_TYPE>(part_of_block(parts, blockIdx.x, kDmmvRows), ESP_LINEAR_ACTIVATIONS);
}

extern "C" __global__ void __launch_bounds__(kPlainThreads) linear_plain(ESP_LINEAR_PARAMETERS) {
    const Parts parts = ESP_LINEAR_PARTS;
    linear_plain_rows<Weights>(part_of_block(parts, blockIdx.x, kPlainRows), ESP_LINEAR_ACTIVATIONS, blockIdx.y * kPlainTokens);
}

extern "C" __global__ void __launch_bounds__(kMatmulThreads) linear_matmul(ESP_LINEAR_PARAMETERS) {
    const Parts parts = ESP_LINEAR_PARTS;
    linear_matmul_rows<Weights>(part_of_block(parts, blockIdx.x, kMatmulRows), ESP_LINEAR_ACTIVATIONS,
                                blockIdx.y * kMatmulTokens);
}

extern "C" __global__ void __launch_bounds__(kEmbedThreads) embed(const uint8_t* table, int n_out, int n_in,
                                                                  const int* token_ids, float* y) {
    embed_block<Weights>(table, n_out, n_in, token_ids, y);
}

}  // namespace espalier
