// Which ISA tiers this machine runs, and which one is meant: the best, or the one a person named.
#pragma once

#include <stdexcept>
#include <string>

#include "cpu/ceilings.h"
#include "cpu/kernels.h"
#include "cpu/vector_kernels.h"

namespace espalier {

struct Tier {
    const char* isa;
    bool available;
    const KernelTable* (*linears)();
    const VectorKernels* (*vectors)();
    const CeilingLoops* (*ceilings)();
};

// Worst to best. __builtin_cpu_supports also asks whether the operating system saves the registers.
inline const Tier (&tiers())[3] {
    __builtin_cpu_init();
    static const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                               __builtin_cpu_supports("avx512vnni");
    static const Tier all[3] = {{"scalar", true, kernels_scalar, vector_kernels_scalar, ceiling_loops_scalar},
                                {"avx2", avx2, kernels_avx2, vector_kernels_avx2, ceiling_loops_avx2},
                                {"avx512vnni", avx512, kernels_avx512, vector_kernels_avx512, ceiling_loops_avx512}};
    return all;
}

// The tier of that name, the best one for "". Throws std::invalid_argument for a name this machine cannot run.
inline const Tier& choose_tier(const std::string& isa) {
    const Tier* best = nullptr;
    std::string runnable;
    for (const Tier& tier : tiers()) {
        if (!tier.available) continue;
        if (isa == tier.isa) return tier;
        best = &tier;
        runnable += runnable.empty() ? tier.isa : std::string(", ") + tier.isa;
    }
    if (isa.empty()) return *best;
    throw std::invalid_argument("no ISA tier \"" + isa + "\" on this machine; it runs " + runnable);
}

}  // namespace espalier
