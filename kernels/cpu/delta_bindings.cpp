// The checks of the recurrent operations (kernels/delta_ops.py), and their steps. Slots are checked whenever a step runs,
// before they are followed.
#include "cpu/delta_bindings.h"

#include <cmath>

#include "cpu/backend.h"

namespace espalier {

constexpr int64_t kConvChannels = 512;  // of an item

// kernels/batches.py, StateBatch.
struct StatePass {
    const int32_t *query_start, *context_lens, *slots;
    int64_t n_seqs;

    int64_t first(int64_t seq) const { return query_start[seq]; }
    int64_t n_tokens(int64_t seq) const { return query_start[seq + 1] - query_start[seq]; }
    bool is_fresh(int64_t seq) const { return slots[seq] < 0 || context_lens[seq] == n_tokens(seq); }
};

static StatePass states_of(const Ints& query_start, const Ints& context_lens, const Ints& slots) {
    require(query_start.size() == context_lens.size() + 1 && slots.size() == context_lens.size(),
            "query_start is [n_seqs + 1], context_lens and slots are [n_seqs]");
    return {query_start.data(), context_lens.data(), slots.data(), int64_t(slots.size())};
}

static void check_states(const StatePass& pass, int64_t n_tokens, int64_t n_slots) {
    require(pass.query_start[0] == 0 && pass.query_start[pass.n_seqs] == n_tokens, "query_start does not span the tokens");
    for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
        require(pass.n_tokens(seq) >= 0, "query_start goes down");
        if (pass.slots[seq] != -1) require_ids(pass.slots + seq, 1, n_slots, "state slot");
    }
}

using States = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Inputs = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

static void causal_conv(Backend& backend, const Floats& x, const Floats& weight, const Inputs& kept, const Ints& query_start,
                        const Ints& context_lens, const Ints& slots, const FloatsOut& out) {
    const int64_t n_slots = dim(kept, 0), n_taps = dim(kept, 1) + 1, n_channels = dim(kept, 2);
    require(x.ndim() == 2 && dim(x, 1) == n_channels && int64_t(weight.size()) == n_taps * n_channels,
            "causal_conv: x is [n_tokens, n_channels], weight has a row of channels for each tap");
    require_same_shape(x, out, "causal_conv: out has the shape of x");
    const StatePass pass = states_of(query_start, context_lens, slots);
    const ConvPass conv{x.data(), weight.data(), out.data(), n_channels, n_taps};
    backend.perform("causal_conv", [&backend, conv, pass, states = kept.data(), n_slots, n_tokens = dim(x, 0)] {
        check_states(pass, n_tokens, n_slots);
        const int64_t n_ranges = (conv.n_channels + kConvChannels - 1) / kConvChannels;
        backend.pool().run(pass.n_seqs * n_ranges, [&](int64_t i, int) {
            const int64_t seq = i / n_ranges, first = i % n_ranges * kConvChannels;
            const int64_t last = std::min(first + kConvChannels, conv.n_channels);
            float* own = pass.slots[seq] < 0 ? nullptr : states + pass.slots[seq] * (conv.n_taps - 1) * conv.n_channels;
            backend.vectors().causal_conv(conv, {pass.first(seq), pass.n_tokens(seq), first, last, own, pass.is_fresh(seq)});
        });
    });
}

static void delta_inputs(Backend& backend, const Floats& qkv, const Floats& alpha, const Floats& beta, const Floats& dt, const Floats& a,
                         int64_t key_dim, float eps, const FloatsOut& normed, const FloatsOut& decays) {
    require(qkv.ndim() == 2 && alpha.ndim() == 2 && alpha.shape(0) == qkv.shape(0), "delta_net: qkv and alpha have a row for each token");
    require_same_shape(alpha, beta, "delta_net: alpha and beta have one shape");
    const int64_t n_tokens = dim(qkv, 0), n_head = dim(alpha, 1), n_keys = last_dim(normed) / 2;
    require(int64_t(dt.size()) == n_head && int64_t(a.size()) == n_head, "delta_net: the gates have a value for each head");
    require(key_dim > 0 && n_keys > 0 && n_keys % key_dim == 0 && 2 * n_keys < dim(qkv, 1) && n_head % (n_keys / key_dim) == 0,
            "delta_net: qkv has as many heads of queries as of keys, and of values a multiple of that");
    require(normed.ndim() == 2 && dim(normed, 0) == n_tokens && dim(normed, 1) == 2 * n_keys && decays.ndim() == 3 &&
                dim(decays, 0) == n_tokens && dim(decays, 1) == n_head && dim(decays, 2) == 2,
            "delta_net: normed is [n_tokens, 2 * n_keys], decays [n_tokens, n_head, 2]");
    const DeltaInputs pass{qkv.data(), alpha.data(), beta.data(), dt.data(), a.data(), normed.data(), decays.data(), dim(qkv, 1),
                           n_keys, key_dim, n_head, eps, 1.0f / std::sqrt(float(key_dim))};
    backend.perform("delta_inputs", [&backend, pass, n_tokens] {
        backend.pool().run(n_tokens, [&](int64_t t, int) { backend.vectors().delta_inputs(pass, t); });
    });
}

static void delta_net(Backend& backend, const Floats& qkv, const Floats& normed, const Floats& decays, const States& states,
                      const Ints& query_start, const Ints& context_lens, const Ints& slots, const FloatsOut& out) {
    const int64_t n_slots = dim(states, 0), n_head = dim(states, 1), key_dim = dim(states, 2), padded = dim(states, 3);
    require(out.ndim() == 3 && qkv.ndim() == 2 && normed.ndim() == 2 && decays.ndim() == 3, "delta_net: out is [n_tokens, n_head, value_dim]");
    const int64_t n_tokens = dim(out, 0), value_dim = dim(out, 2), n_keys = dim(normed, 1) / 2;
    require(dim(out, 1) == n_head && value_dim > 0 && padded == (value_dim + 15) / 16 * 16 && key_dim > 0 && n_keys % key_dim == 0 &&
                dim(qkv, 0) == n_tokens && dim(qkv, 1) == 2 * n_keys + n_head * value_dim && dim(normed, 0) == n_tokens &&
                dim(decays, 0) == n_tokens && dim(decays, 1) == n_head,
            "delta_net: qkv, the states and out do not fit together");
    const StatePass pass = states_of(query_start, context_lens, slots);
    const DeltaPass delta{qkv.data(), normed.data(), decays.data(), out.data(), dim(qkv, 1), n_keys, key_dim, n_head, value_dim, padded};
    backend.perform("delta_net", [&backend, delta, pass, state = states.data(), n_slots, n_tokens] {
        check_states(pass, n_tokens, n_slots);
        const int64_t head_floats = delta.key_dim * delta.value_dim_padded;
        backend.pool().run(pass.n_seqs * delta.n_head, [&](int64_t i, int worker) {
            const int64_t seq = i / delta.n_head, head = i % delta.n_head;
            // A padding sequence has a state that nobody keeps.
            float* own = pass.slots[seq] < 0 ? backend.floats_of(worker, head_floats)
                                             : state + (pass.slots[seq] * delta.n_head + head) * head_floats;
            backend.vectors().delta_net(delta, {pass.first(seq), pass.n_tokens(seq), head, own, pass.is_fresh(seq)});
        });
    });
}

static void sigmoid_mul(Backend& backend, const Floats& x, const Floats& gate, const FloatsOut& out) {
    require_same_shape(x, gate, "sigmoid_mul: x and gate have one shape");
    require_same_shape(x, out, "sigmoid_mul: out has the shape of x");
    backend.perform("sigmoid_mul", [&backend, from = x.data(), by = gate.data(), y = out.data(), n = int64_t(x.size())] {
        backend.rows_in_parallel(n, 1, [&](int64_t first, int64_t count) {
            backend.vectors().sigmoid_mul(from + first, by + first, count, y + first);
        });
    });
}

static void add_gated(Backend& backend, const Floats& residual, const Floats& x, const Floats& gate, const FloatsOut& out) {
    require(x.ndim() == 2 && int64_t(gate.size()) == dim(x, 0), "add_gated: x is [n_tokens, n], gate has a value for each token");
    require_same_shape(x, residual, "add_gated: x and the residual have one shape");
    require_same_shape(x, out, "add_gated: out has the shape of x");
    const float *added_to = residual.data(), *from = x.data(), *by = gate.data();
    backend.perform("add_gated", [&backend, added_to, from, by, y = out.data(), n_tokens = dim(x, 0), n = dim(x, 1)] {
        backend.rows_in_parallel(n_tokens, n, [&](int64_t first, int64_t count) {
            for (int64_t t = first; t < first + count; ++t)
                backend.vectors().add_gated(added_to + t * n, from + t * n, by[t], n, y + t * n);
        });
    });
}

void bind_delta_ops(nb::class_<Backend>& backend) {
    using namespace nb::literals;
    backend
        .def("causal_conv", causal_conv, "x"_a.noconvert(), "weight"_a.noconvert(), "kept"_a.noconvert(), "query_start"_a.noconvert(),
             "context_lens"_a.noconvert(), "slots"_a.noconvert(), "out"_a.noconvert())
        .def("delta_inputs", delta_inputs, "qkv"_a.noconvert(), "alpha"_a.noconvert(), "beta"_a.noconvert(), "dt"_a.noconvert(),
             "a"_a.noconvert(), "key_dim"_a, "eps"_a, "normed"_a.noconvert(), "decays"_a.noconvert())
        .def("delta_net", delta_net, "qkv"_a.noconvert(), "normed"_a.noconvert(), "decays"_a.noconvert(), "states"_a.noconvert(),
             "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "slots"_a.noconvert(), "out"_a.noconvert())
        .def("sigmoid_mul", sigmoid_mul, "x"_a.noconvert(), "gate"_a.noconvert(), "out"_a.noconvert())
        .def("add_gated", add_gated, "residual"_a.noconvert(), "x"_a.noconvert(), "gate"_a.noconvert(), "out"_a.noconvert());
}

}  // namespace espalier
