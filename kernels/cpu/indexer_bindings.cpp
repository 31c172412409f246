// The checks of the operations of an indexer (kernels/indexer_ops.py), and their steps.
#include "cpu/indexer_bindings.h"

#include <nanobind/stl/string.h>

#include "cpu/backend.h"

namespace espalier {

using IntsOut = nb::ndarray<int32_t, nb::c_contig, nb::device::cpu>;

static void layer_norm(Backend& backend, const Floats& x, const Floats& weight, const Floats& bias, float eps, const FloatsOut& out) {
    const int64_t n = last_dim(x);
    require(n > 0 && weight.ndim() == 1 && dim(weight, 0) == n, "layer_norm: weight has one value for each column of x");
    require_same_shape(weight, bias, "layer_norm: bias has the shape of weight");
    require_same_shape(x, out, "layer_norm: out has the shape of x");
    const float *from = x.data(), *scale = weight.data(), *shift = bias.data();
    float* y = out.data();
    backend.perform("layer_norm", [&backend, from, scale, shift, eps, y, n, n_rows = int64_t(x.size()) / n] {
        backend.rows_in_parallel(n_rows, n, [&](int64_t first, int64_t count) {
            backend.vectors().layer_norm(from + first * n, scale, shift, eps, n, count, y + first * n);
        });
    });
}

static void choose_keys(Backend& backend, const Floats& q, const Floats& weights, const std::string& type, const CacheBytes& rows,
                        int64_t block_size, int64_t width, const Ints& query_start, const Ints& context_lens, const Ints& block_table,
                        const IntsOut& out) {
    const PagedCache cache = latents_of(row_type_of(type), rows, block_size, width);
    require(q.ndim() == 3 && dim(q, 1) > 0 && dim(q, 2) == width, "choose_keys: q is [n_tokens, n_head, width]");
    require(weights.ndim() == 2 && weights.shape(0) == q.shape(0) && weights.shape(1) == q.shape(1),
            "choose_keys: weights is [n_tokens, n_head]");
    require(out.ndim() == 2 && out.shape(0) == q.shape(0) && dim(out, 1) > 0, "choose_keys: out is [n_tokens, top_k]");
    const AttentionPass pass = pass_of(query_start, context_lens, block_table);
    const IndexQueries queries{q.data(), weights.data(), dim(q, 1)};
    int32_t* positions = out.data();
    backend.perform("choose_keys", [&backend, queries, cache, pass, positions, n_tokens = dim(q, 0), top_k = dim(out, 1)] {
        check_pass(pass, cache, n_tokens);
        backend.indexer().run(backend.vectors(), backend.pool(), queries, cache, pass, top_k, positions);
    });
}

void bind_indexer_ops(nb::class_<Backend>& backend) {
    using namespace nb::literals;
    backend
        .def("layer_norm", layer_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert(), "eps"_a, "out"_a.noconvert())
        .def("choose_keys", choose_keys, "q"_a.noconvert(), "weights"_a.noconvert(), "kv_type"_a, "cache"_a.noconvert(), "block_size"_a,
             "width"_a, "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "block_table"_a.noconvert(), "out"_a.noconvert());
}

}  // namespace espalier
