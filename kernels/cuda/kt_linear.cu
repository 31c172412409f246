// The kernels of IQ1_KT, IQ2_KT, IQ3_KT or IQ4_KT (ESP_TYPE), whose weights lie in tiles.
#include "cuda/embed.cuh"
#include "cuda/kt_dmmv_1.cuh"
#include "cuda/kt_dmmv_8.cuh"
#include "cuda/kt_dmmv_dp4a.cuh"
#include "cuda/kt_pack.cuh"
#include "cuda/linear_matmul.cuh"
#include "cuda/linear_plain.cuh"

namespace espalier {

using Weights = KtTiles<ESP_TYPE>;

// Second launch bounds: blocks a multiprocessor. Left to itself the compiler takes more registers for kt_dmmv_1 than two
// blocks leave, and for the others it aims at more blocks and spills.

extern "C" __global__ void __launch_bounds__(kWarp) kt_pack(const uint8_t* rows, int n_rows, int first_row, uint8_t* tiles,
                                                            int n_out, int n_in) {
    kt_pack_tile<ESP_TYPE>(rows, n_rows, first_row, tiles, n_out, n_in);
}

extern "C" __global__ void __launch_bounds__(8 * kWarp, 2) kt_dmmv_1(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, 2 * kTileRows);
    kt_dmmv_1_rows<ESP_TYPE, 2, 8>(part, ESP_LINEAR_ACTIVATIONS);
    finish_gated<2 * kTileRows, 1>(ESP_LINEAR_GATED, part.first_row, 0);
}

extern "C" __global__ void __launch_bounds__(16 * kWarp, 1) kt_dmmv_1_narrow(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kTileRows);
    kt_dmmv_1_rows<ESP_TYPE, 1, 16>(part, ESP_LINEAR_ACTIVATIONS);
    finish_gated<kTileRows, 1>(ESP_LINEAR_GATED, part.first_row, 0);
}

extern "C" __global__ void __launch_bounds__(kPlanes * kWarp, 4) kt_dmmv_8(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, 2 * kTileRows);
    kt_dmmv_8_rows<ESP_TYPE, 2>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kDmmvTokens);
    finish_gated<2 * kTileRows, kDmmvTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kDmmvTokens);
}

extern "C" __global__ void __launch_bounds__(kPlanes * kWarp, 4) kt_dmmv_8_narrow(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kTileRows);
    kt_dmmv_8_rows<ESP_TYPE, 1>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kDmmvTokens);
    finish_gated<kTileRows, kDmmvTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kDmmvTokens);
}

extern "C" __global__ void __launch_bounds__(kDp4aTiles * kWarp, 8) kt_dmmv_dp4a(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kDp4aTiles * kTileRows);
    kt_dmmv_dp4a_rows<ESP_TYPE>(part, ESP_LINEAR_ACTIVATIONS);
    finish_gated<kDp4aTiles * kTileRows, 1>(ESP_LINEAR_GATED, part.first_row, 0);
}

extern "C" __global__ void __launch_bounds__(kPlainThreads) linear_plain(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kPlainRows);
    linear_plain_rows<Weights>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kPlainTokens);
    finish_gated<kPlainRows, kPlainTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kPlainTokens);
}

extern "C" __global__ void __launch_bounds__(kMatmulThreads) linear_matmul(ESP_LINEAR_PARAMETERS) {
    const Part part = part_of_block(ESP_LINEAR_PARTS, blockIdx.x, kMatmulRows);
    linear_matmul_rows<Weights>(part, ESP_LINEAR_ACTIVATIONS, blockIdx.y * kMatmulTokens);
    finish_gated<kMatmulRows, kMatmulTokens>(ESP_LINEAR_GATED, part.first_row, blockIdx.y * kMatmulTokens);
}

extern "C" __global__ void __launch_bounds__(kEmbedThreads) embed(const uint8_t* table, int n_out, int n_in,
                                                                  const int* token_ids, float* y) {
    embed_block<Weights>(table, n_out, n_in, token_ids, y);
}

}  // namespace espalier
