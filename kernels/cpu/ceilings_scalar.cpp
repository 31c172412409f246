// The scalar tier of the benchmark's ceilings, in a namespace of its own (simd.h).
#define ESPALIER_TIER scalar
#define ESPALIER_TIER_ID 1
#include "cpu/ceiling_loops.h"

namespace espalier {

const CeilingLoops* ceiling_loops_scalar() { return &scalar::kCeilingLoops; }

}  // namespace espalier
