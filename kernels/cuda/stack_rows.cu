// Stacks of one quantized type whose matrices lie as file rows (ESP_TYPE).
#include "cuda/file_rows.cuh"
#include "cuda/linear_matmul.cuh"
#include "cuda/linear_plain.cuh"
#include "cuda/stack_linear.cuh"

namespace espalier {

using Weights = FileRows<ESP_TYPE>;

extern "C" __global__ void __launch_bounds__(kPlainThreads, 2) stack_few(ESP_STACK_PARAMETERS) {
    const Stack stack = ESP_STACK;
    if (!stack.is_empty()) linear_plain_rows<Weights>(stack.part(kPlainRows), stack.activations(), 0);
}

extern "C" __global__ void __launch_bounds__(kMatmulThreads, 1) stack_many(ESP_STACK_PARAMETERS) {
    const Stack stack = ESP_STACK;
    if (!stack.is_empty()) linear_matmul_rows<Weights>(stack.part(kMatmulRows), stack.activations(), 0);
}

}  // namespace espalier
