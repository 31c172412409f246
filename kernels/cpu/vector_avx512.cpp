// The avx512 tier of the kernels beside the linears, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx512
#define ESPALIER_TIER_ID 3
#include "cpu/vector_table.h"

namespace espalier {

const VectorKernels* vector_kernels_avx512() { return &avx512::kVectorTable; }

}  // namespace espalier
