// The avx2 tier of the benchmark's ceilings, in a namespace of its own (simd.h).
#define ESPALIER_TIER avx2
#define ESPALIER_TIER_ID 2
#include "cpu/ceiling_loops.h"

namespace espalier {

const CeilingLoops* ceiling_loops_avx2() { return &avx2::kCeilingLoops; }

}  // namespace espalier
