// The avx512vnni tier: the kernels compiled for it, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx512
#define ESPALIER_TIER_ID 3
#define ESPALIER_ISA_NAME "avx512vnni"
#include "cpu/tier_table.h"

namespace espalier {

const KernelTable* kernels_avx512() { return &avx512::kTable; }

}  // namespace espalier
