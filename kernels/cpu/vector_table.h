// The table of one ISA tier (vector_kernels.h), built from the kernels in this tier's namespace.
#pragma once

#include "cpu/attention.h"
#include "cpu/choice_scan.h"
#include "cpu/delta_net.h"
#include "cpu/indexer.h"
#include "cpu/latent_attention.h"
#include "cpu/weighted_sum.h"

namespace espalier::ESPALIER_TIER {

static const VectorKernels kVectorTable = {
    rms_norm,     layer_norm,       silu_mul,     gelu_mul,  exp_of,      store_kv,     attention,
    store_latent, latent_attention, index_scores, highest,   next_block,  add_to_bins,  next_draws,
    weighted_sum, sigmoid_mul,      add_gated,    causal_conv, delta_inputs, delta_net,
};

}  // namespace espalier::ESPALIER_TIER
