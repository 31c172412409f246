// Stacks of IQ1_KT, IQ2_KT, IQ3_KT or IQ4_KT (ESP_TYPE), whose matrices lie in tiles, each in whole ones.
#include "cuda/kt_dmmv_8.cuh"
#include "cuda/linear_matmul.cuh"
#include "cuda/stack_linear.cuh"

namespace espalier {

extern "C" __global__ void __launch_bounds__(kPlanes * kWarp, 4) stack_few(ESP_STACK_PARAMETERS) {
    const Stack stack = ESP_STACK;
    if (!stack.is_empty()) kt_dmmv_8_rows<ESP_TYPE, 2>(stack.part(2 * kTileRows), stack.activations(), 0);
}

extern "C" __global__ void __launch_bounds__(kMatmulThreads) stack_many(ESP_STACK_PARAMETERS) {
    const Stack stack = ESP_STACK;
    if (!stack.is_empty()) linear_matmul_rows<KtTiles<ESP_TYPE>>(stack.part(kMatmulRows), stack.activations(), 0);
}

}  // namespace espalier
