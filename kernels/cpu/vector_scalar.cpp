// The scalar tier of the kernels beside the linears, in a namespace of its own (simd.h).
#define ESPALIER_TIER scalar
#define ESPALIER_TIER_ID 1
#include "cpu/vector_table.h"

namespace espalier {

const VectorKernels* vector_kernels_scalar() { return &scalar::kVectorTable; }

}  // namespace espalier
