// The checks of the operations on stacks (kernels/expert_ops.py), and their steps. Experts are checked whenever a step
// runs, before they are followed.
#include "cpu/expert_bindings.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "cpu/backend.h"

namespace espalier {

using IntsOut = nb::ndarray<int32_t, nb::c_contig, nb::device::cpu>;

static Gating gating_of(const std::string& name) {
    if (name == "softmax") return Gating::kSoftmax;
    if (name == "sigmoid") return Gating::kSigmoid;
    if (name == "softmax_chosen") return Gating::kSoftmaxOfChosen;
    refuse("no gating named " + name);
}

static void require_routing(const Routing& routing) {
    require(routing.n_used >= 1 && routing.n_used <= routing.n_expert, "route: 1 to n_expert experts are used");
    require(routing.n_group >= 1 && routing.n_expert % routing.n_group == 0, "route: groups are of one size");
    require(routing.n_group_used >= 1 && routing.n_group_used <= routing.n_group &&
                routing.n_used <= routing.n_expert / routing.n_group * routing.n_group_used,
            "route: the groups in use have n_used experts or more");
}

static std::unique_ptr<PackedStack> pack_stack(Backend& backend, const std::string& type, int64_t n, int64_t n_out, int64_t n_in,
                                               const Bytes& data) {
    auto stack = std::make_unique<PackedStack>(type_of(type), n, n_out, n_in);
    require(int64_t(data.size()) == n * n_out * stack->file_row_bytes(), "the data is not n * n_out rows of the type");
    const nb::gil_scoped_release no_gil;
    backend.pool().run(stack->n_tiles(), [&](int64_t tile, int) { stack->pack_tile(data.data(), tile); });
    return stack;
}

static void route(Backend& backend, const Floats& logits, const std::optional<Floats>& bias, const std::string& gating, int64_t n_used,
                  int64_t n_group, int64_t n_group_used, bool normalize, float scale, const IntsOut& experts, const FloatsOut& weights) {
    require(logits.ndim() == 2, "route: logits is [n_tokens, n_expert]");
    const int64_t n_tokens = dim(logits, 0), n_expert = dim(logits, 1);
    const Routing routing{gating_of(gating), n_expert, n_used, n_group, n_group_used, normalize, scale};
    require_routing(routing);
    require(!bias || (bias->ndim() == 1 && dim(*bias, 0) == n_expert), "route: bias is [n_expert]");
    require(experts.ndim() == 2 && dim(experts, 0) == n_tokens && dim(experts, 1) == n_used, "route: experts is [n_tokens, n_used]");
    require_same_shape(experts, weights, "route: weights has the shape of experts");
    const float *from = logits.data(), *chooses = bias ? bias->data() : nullptr;
    int32_t* ids = experts.data();
    float* y = weights.data();
    backend.perform("route", [&backend, routing, from, chooses, n_tokens, ids, y] {
        backend.tokens_in_parallel(n_tokens, routing.n_expert, [&](int64_t t, Router& router) {
            router.run(routing, from + t * routing.n_expert, chooses, ids + t * routing.n_used, y + t * routing.n_used);
        });
    });
}

static ExpertChoice choice_of(const Ints& experts, int64_t n_tokens) {
    require(experts.ndim() == 2 && dim(experts, 0) == n_tokens && dim(experts, 1) > 0, "experts is [n_tokens, n_used]");
    return {experts.data(), n_tokens, dim(experts, 1)};
}

static void gated_experts(Backend& backend, const Floats& x, const PackedStack& gate, const PackedStack& up, const Ints& experts,
                          const FloatsOut& out) {
    require(x.ndim() == 2 && dim(x, 1) == gate.n_in() && gate.n() == up.n() && gate.n_out() == up.n_out() && gate.n_in() == up.n_in(),
            "gated_experts: x is [n_tokens, n_in], gate and up are [n, n_ff, n_in]");
    const ExpertChoice choice = choice_of(experts, dim(x, 0));
    require(out.ndim() == 3 && dim(out, 0) == choice.n_tokens && dim(out, 1) == choice.n_used && dim(out, 2) == gate.n_out(),
            "gated_experts: out is [n_tokens, n_used, n_ff]");
    if (choice.n_tokens == 0) return;
    backend.perform("gated_experts", [&backend, from = x.data(), choice, &gate, &up, y = out.data()] {
        require_ids(choice.experts, choice.n_rows(), gate.n(), "expert");
        backend.stacks().gated(from, choice, gate, up, y);
    });
}

static void experts_sum(Backend& backend, const Floats& h, const PackedStack& down, const Ints& experts, const Floats& weights,
                        const Floats& residual, const FloatsOut& out) {
    require(h.ndim() == 3 && dim(h, 2) == down.n_in(), "experts_sum: h is [n_tokens, n_used, n_ff]");
    const ExpertChoice choice = choice_of(experts, dim(h, 0));
    require(dim(h, 1) == choice.n_used, "experts_sum: h is [n_tokens, n_used, n_ff]");
    require_same_shape(experts, weights, "experts_sum: weights has the shape of experts");
    require_same_shape(residual, out, "experts_sum: the residual has the shape of out");
    require(out.ndim() == 2 && dim(out, 0) == choice.n_tokens && dim(out, 1) == down.n_out(), "experts_sum: out is [n_tokens, n_out]");
    if (choice.n_tokens == 0) return;
    const float *from = h.data(), *weight = weights.data(), *added = residual.data();
    backend.perform("experts_sum", [&backend, from, choice, weight, &down, added, y = out.data()] {
        require_ids(choice.experts, choice.n_rows(), down.n(), "expert");
        backend.stacks().weighted_sum(from, choice, weight, down, added, y);
    });
}

static void linear_heads(Backend& backend, const Floats& x, const PackedStack& heads, const FloatsOut& out) {
    require(x.ndim() == 3 && dim(x, 1) == heads.n() && dim(x, 2) == heads.n_in(), "linear_heads: x is [n_tokens, n_head, n_in]");
    require(out.ndim() == 3 && out.shape(0) == x.shape(0) && out.shape(1) == x.shape(1) && dim(out, 2) == heads.n_out(),
            "linear_heads: out is [n_tokens, n_head, n_out]");
    if (x.shape(0) == 0) return;
    backend.perform("linear_heads", [&backend, from = x.data(), n_tokens = dim(x, 0), &heads, y = out.data()] {
        backend.stacks().by_head(from, n_tokens, heads, y);
    });
}

void bind_expert_ops(nb::module_& module, nb::class_<Backend>& backend) {
    using namespace nb::literals;
    nb::class_<PackedStack>(module, "PackedStack")
        .def_prop_ro("nbytes", &PackedStack::nbytes)
        .def_prop_ro("address", [](const PackedStack& stack) { return reinterpret_cast<uintptr_t>(stack.view(0).tiles); });
    backend.def("pack_stack", pack_stack, "type"_a, "n"_a, "n_out"_a, "n_in"_a, "data"_a.noconvert())
        .def("route", route, "logits"_a.noconvert(), "bias"_a.noconvert().none(), "gating"_a, "n_used"_a, "n_group"_a, "n_group_used"_a,
             "normalize"_a, "scale"_a, "experts"_a.noconvert(), "weights"_a.noconvert())
        .def("gated_experts", gated_experts, "x"_a.noconvert(), "gate"_a, "up"_a, "experts"_a.noconvert(), "out"_a.noconvert())
        .def("experts_sum", experts_sum, "h"_a.noconvert(), "down"_a, "experts"_a.noconvert(), "weights"_a.noconvert(),
             "residual"_a.noconvert(), "out"_a.noconvert())
        .def("linear_heads", linear_heads, "x"_a.noconvert(), "heads"_a, "out"_a.noconvert());
}

}  // namespace espalier
