// The checks of the operations on latents (kernels/latent_ops.py), and their steps. Slots and blocks are checked whenever
// a step runs, before they are followed.
#include "cpu/latent_bindings.h"

#include <nanobind/stl/string.h>

#include <optional>

#include "cpu/backend.h"

namespace espalier {

static void store_latent(Backend& backend, const Floats& rows, const std::string& type, const CacheBytes& cache_rows,
                         int64_t block_size, int64_t width, const Ints& slots) {
    const PagedCache cache = latents_of(row_type_of(type), cache_rows, block_size, width);
    require(rows.ndim() == 2 && dim(rows, 1) == width && slots.size() == rows.shape(0),
            "store_latent: rows is [n_tokens, width], slots [n_tokens]");
    const float* from = rows.data();
    const int32_t* slot = slots.data();
    backend.perform("store_latent", [&backend, from, cache, slot, n_tokens = int64_t(slots.size())] {
        require_ids(slot, n_tokens, cache.n_blocks * cache.block_size, "slot");
        for (int64_t t = 0; t < n_tokens; ++t) backend.vectors().store_latent(from + t * cache.head_dim, cache, slot[t]);
    });
}

static void attend(Backend& backend, const Floats& q, const std::string& type, const CacheBytes& rows, int64_t block_size,
                   int64_t width, const AttentionPass& pass, float scale, const std::optional<ChosenKeys>& chosen,
                   const FloatsOut& out) {
    const PagedCache cache = latents_of(kv_type_of(type), rows, block_size, width);
    require(q.ndim() == 3 && dim(q, 1) > 0 && dim(q, 2) == width, "latent_attention: q is [n_tokens, n_head, width]");
    require(out.ndim() == 3 && out.shape(0) == q.shape(0) && out.shape(1) == q.shape(1) && dim(out, 2) > 0 && dim(out, 2) <= width,
            "latent_attention: out is [n_tokens, n_head, value_width]");
    const LatentShape shape{dim(q, 1), dim(out, 2), scale};
    const float* from = q.data();
    float* y = out.data();
    backend.perform("latent_attention", [&backend, from, cache, shape, pass, chosen, y, n_tokens = dim(q, 0)] {
        check_pass(pass, cache, n_tokens);
        if (chosen) check_chosen(pass, *chosen);
        backend.latent_attention().run(backend.vectors(), backend.pool(), from, cache, shape, pass, chosen ? &*chosen : nullptr, y);
    });
}

static void latent_attention(Backend& backend, const Floats& q, const std::string& type, const CacheBytes& rows, int64_t block_size,
                             int64_t width, const Ints& query_start, const Ints& context_lens, const Ints& block_table, float scale,
                             const FloatsOut& out) {
    const AttentionPass pass = pass_of(query_start, context_lens, block_table);
    attend(backend, q, type, rows, block_size, width, pass, scale, std::nullopt, out);
}

static void sparse_latent_attention(Backend& backend, const Floats& q, const std::string& type, const CacheBytes& rows,
                                    int64_t block_size, int64_t width, const Ints& query_start, const Ints& context_lens,
                                    const Ints& block_table, float scale, const Ints& chosen, const FloatsOut& out) {
    const AttentionPass pass = pass_of(query_start, context_lens, block_table);
    require(chosen.ndim() == 2 && chosen.shape(0) == q.shape(0), "sparse_latent_attention: chosen is [n_tokens, top_k]");
    attend(backend, q, type, rows, block_size, width, pass, scale, ChosenKeys{chosen.data(), dim(chosen, 1)}, out);
}

static void concat(Backend& backend, const Floats& x, const Floats& y, const FloatsOut& out) {
    const size_t last = x.ndim() - 1;
    bool alike = x.ndim() > 0 && y.ndim() == x.ndim() && out.ndim() == x.ndim() && out.shape(last) == x.shape(last) + y.shape(last);
    for (size_t i = 0; alike && i < last; ++i) alike = x.shape(i) == y.shape(i) && x.shape(i) == out.shape(i);
    require(alike && dim(x, last) > 0, "concat: x is [..., n], y [..., m], out [..., n + m]");
    const int64_t n = dim(x, last), m = dim(y, last), n_rows = int64_t(x.size()) / n;
    const float *from_x = x.data(), *from_y = y.data();
    float* to = out.data();
    backend.perform("concat", [&backend, from_x, from_y, to, n, m, n_rows] {
        backend.rows_in_parallel(n_rows, n + m, [&](int64_t first, int64_t count) {
            for (int64_t row = first; row < first + count; ++row) {
                std::copy_n(from_x + row * n, n, to + row * (n + m));
                std::copy_n(from_y + row * m, m, to + row * (n + m) + n);
            }
        });
    });
}

void bind_latent_ops(nb::class_<Backend>& backend) {
    using namespace nb::literals;
    backend.def("store_latent", store_latent, "rows"_a.noconvert(), "kv_type"_a, "cache"_a.noconvert(), "block_size"_a, "width"_a,
                "slots"_a.noconvert())
        .def("latent_attention", latent_attention, "q"_a.noconvert(), "kv_type"_a, "cache"_a.noconvert(), "block_size"_a, "width"_a,
             "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "block_table"_a.noconvert(), "scale"_a, "out"_a.noconvert())
        .def("sparse_latent_attention", sparse_latent_attention, "q"_a.noconvert(), "kv_type"_a, "cache"_a.noconvert(),
             "block_size"_a, "width"_a, "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "block_table"_a.noconvert(),
             "scale"_a, "chosen"_a.noconvert(), "out"_a.noconvert())
        .def("concat", concat, "x"_a.noconvert(), "y"_a.noconvert(), "out"_a.noconvert());
}

}  // namespace espalier
