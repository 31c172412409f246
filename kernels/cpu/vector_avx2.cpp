// The avx2 tier of the kernels beside the linears, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx2
#define ESPALIER_TIER_ID 2
#include "cpu/vector_table.h"

namespace espalier {

const VectorKernels* vector_kernels_avx2() { return &avx2::kVectorTable; }

}  // namespace espalier
