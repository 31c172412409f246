// What a core of this machine can do at most, tier by tier: loops over registers alone, and a sequential read.
// A benchmark measures them in the run in which it measures the kernels, and says how near those come.
#pragma once

#include <cstdint>

namespace espalier {

struct CeilingLoops {
    // One product, AND and dot of four bytes for every weight: what decoding a trellis weight for one token takes.
    void (*trellis)(int64_t n_weights);
    // The dots alone, four multiply-adds each: what every further token of a decoded block takes.
    void (*dots)(int64_t n_macs);
    // Fused multiply-adds of floats: dense matrices, attention.
    void (*fmas)(int64_t n_macs);
    // Every byte once, n_bytes a multiple of 64.
    void (*read)(const uint8_t* bytes, int64_t n_bytes);
};

const CeilingLoops* ceiling_loops_scalar();
const CeilingLoops* ceiling_loops_avx2();
const CeilingLoops* ceiling_loops_avx512();

}  // namespace espalier
