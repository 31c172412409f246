// The avx2 tier: the kernels compiled for it, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx2
#define ESPALIER_TIER_ID 2
#define ESPALIER_ISA_NAME "avx2"
#include "cpu/tier_table.h"

namespace espalier {

const KernelTable* kernels_avx2() { return &avx2::kTable; }

}  // namespace espalier
