// The avx512 tier of the benchmark's ceilings, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx512
#define ESPALIER_TIER_ID 3
#include "cpu/ceiling_loops.h"

namespace espalier {

const CeilingLoops* ceiling_loops_avx512() { return &avx512::kCeilingLoops; }

}  // namespace espalier
