// The look-up kernel of a type (ESP_TYPE) whose table lies as file rows while its linears have tiles.
#include "cuda/embed.cuh"
#include "cuda/file_rows.cuh"

namespace espalier {

extern "C" __global__ void __launch_bounds__(kEmbedThreads) embed(const uint8_t* table, int n_out, int n_in,
                                                                  const int* token_ids, float* y) {
    embed_block<FileRows<ESP_TYPE>>(table, n_out, n_in, token_ids, y);
}

}  // namespace espalier
