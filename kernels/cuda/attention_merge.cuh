// The last launch of an attention whose splits had blocks of their own (attention.cu, attention_tensor.cu,
// latent_attention.cu).
#pragma once

#include "cuda/attention_pass.cuh"

namespace espalier {

// ---- The splits of one query, merged in order.   grid (n_head, n_tokens)   block 256
//   m, l float32 [n_tokens, n_head, n_splits]   o float32 [n_tokens, n_head, n_splits, n_dims]   y [n_tokens, n_head, n_dims]
extern "C" __global__ void __launch_bounds__(256) attention_merge(const float* m, const float* l, const float* o,
                                                                const int* query_start, const int* context_lens, int n_seqs,
                                                                int n_splits, int n_dims, int window, float* y) {
    const Pass pass{query_start, context_lens, nullptr, n_seqs, 0, 0, 0, 0.0f, window};
    const int token = blockIdx.y, seq = sequence_of(pass, token);
    const int visible = context_lens[seq] - (query_start[seq + 1] - 1 - token);
    const int64_t query = int64_t(token) * gridDim.x + blockIdx.x, first = query * n_splits;
    const int n_seen = visible - split_at(begin_of(visible, window));  // from the first split on
    for (int d = threadIdx.x; d < n_dims; d += blockDim.x) {
        float merged = 0.0f, merged_m = 0.0f, merged_l = 1.0f;  // a padding sequence sees nothing
        for (int split = 0; split * kSplit < n_seen; ++split) {
            const float value = o[(first + split) * n_dims + d], split_m = m[first + split], split_l = l[first + split];
            const Shares shares = merge_shares(merged_m, merged_l, split_m, split_l);
            merged = split == 0 ? value : merge_value(shares, merged, value);
            merged_m = split == 0 ? split_m : shares.m;
            merged_l = split == 0 ? split_l : shares.l;
        }
        y[query * n_dims + d] = merged / merged_l;
    }
}

}  // namespace espalier
