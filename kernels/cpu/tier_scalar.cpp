// The scalar tier: the kernels compiled for it, in a namespace of its own (simd.h).
#define ESPALIER_TIER scalar
#define ESPALIER_TIER_ID 1
#define ESPALIER_ISA_NAME "scalar"
#include "cpu/tier_table.h"

namespace espalier {

const KernelTable* kernels_scalar() { return &scalar::kTable; }

}  // namespace espalier
