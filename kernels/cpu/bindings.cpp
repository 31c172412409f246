// The native module: what Python sees of the CPU backend (backend.h). A step is given addresses; who records a program
// keeps its arrays, matrices and caches alive (kernels/cpu/ops.py).
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "cpu/backend.h"
#include "cpu/ceilings_bindings.h"
#include "cpu/choice_bindings.h"
#include "cpu/delta_bindings.h"
#include "cpu/expert_bindings.h"
#include "cpu/indexer_bindings.h"
#include "cpu/latent_bindings.h"
#include "cpu/text_bindings.h"

using namespace espalier;
using namespace nb::literals;

NB_MODULE(_native, module) {
    module.doc() = "Espalier's CPU kernels";
    nb::set_leak_warnings(false);  // a process that ends with a tokenizer alive has nothing to report
    module.def("isa_tiers", [] {
        nb::list names;
        for (const Tier& tier : tiers())
            if (tier.available) names.append(tier.isa);
        return names;
    }, "The ISA tiers that this machine runs, worst to best.");
    module.def("kv_bytes", [](const std::string& kv_type, int64_t block_size, int64_t head_dim) {
        const PagedCache cache{row_type_of(kv_type), nullptr, nullptr, 0, 0, head_dim, block_size};
        return nb::make_tuple(cache.key_bytes(), cache.value_bytes());
    }, "kv_type"_a, "block_size"_a, "head_dim"_a, "Bytes of one KV head's keys and values in one block.");
    bind_ceilings(module);
    bind_choice_records(module);
    bind_text(module);
    nb::class_<PackedMatrix>(module, "PackedMatrix")
        .def_prop_ro("nbytes", &PackedMatrix::nbytes)
        .def_prop_ro("address", [](const PackedMatrix& matrix) { return reinterpret_cast<uintptr_t>(matrix.view().tiles); })
        .def_prop_ro("n_out", &PackedMatrix::n_out)
        .def_prop_ro("n_in", &PackedMatrix::n_in);

    nb::class_<Program>(module, "Program").def("__len__", [](const Program& program) { return program.steps().size(); });

    nb::class_<Backend> backend(module, "Backend");
    backend.def(nb::init<int, const std::string&, int>(), "n_threads"_a, "isa"_a, "planes"_a = 1)
        .def_prop_ro("isa", &Backend::isa)
        .def_prop_ro("n_threads", &Backend::n_threads)
        .def("pack", &Backend::pack, "type"_a, "n_out"_a, "n_in"_a, "data"_a.noconvert())
        .def("first_nonfinite_row", &Backend::first_nonfinite_row, "type"_a, "n_out"_a, "n_in"_a, "data"_a.noconvert())
        .def("embed_tiles", &Backend::embed_tiles, "table"_a, "ids"_a.noconvert(), "out"_a.noconvert())
        .def("embed_rows", &Backend::embed_rows, "type"_a, "data"_a.noconvert(), "n_rows"_a, "n_in"_a, "ids"_a.noconvert(), "out"_a.noconvert())
        .def("begin_program", &Backend::begin_program)
        .def("end_program", &Backend::end_program)
        .def("run_program", &Backend::run_program, "program"_a)
        .def("time_program", &Backend::time_program, "program"_a)
        .def("linear", &Backend::linear, "x"_a.noconvert(), "matrices"_a, "outs"_a, "residual"_a.noconvert() = nb::none())
        .def("gated_linear", &Backend::gated_linear, "x"_a.noconvert(), "gate"_a, "up"_a, "out"_a.noconvert())
        .def("take_rows", &Backend::take_rows, "x"_a.noconvert(), "rows"_a.noconvert(), "out"_a.noconvert())
        .def("rms_norm", &Backend::rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "out"_a.noconvert())
        .def("silu_mul", &Backend::silu_mul, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert())
        .def("gelu_mul", &Backend::gelu_mul, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert())
        .def("exp", &Backend::exp, "x"_a.noconvert(), "out"_a.noconvert())
        .def("add", &Backend::add, "x"_a.noconvert(), "y"_a.noconvert(), "out"_a.noconvert())
        .def("add_bias", &Backend::add_bias, "x"_a.noconvert(), "bias"_a.noconvert(), "out"_a.noconvert())
        .def("scale_by_position", &Backend::scale_by_position, "x"_a.noconvert(), "positions"_a.noconvert(),
             "factors"_a.noconvert(), "stride"_a, "out"_a.noconvert())
        .def("rope_angles", &Backend::rope_angles, "positions"_a.noconvert(), "freqs"_a.noconvert(), "mscale"_a, "out"_a.noconvert())
        .def("rope", &Backend::rope, "x"_a.noconvert(), "angles"_a.noconvert(), "interleaved"_a, "out"_a.noconvert())
        .def("store_kv", &Backend::store_kv, "k"_a.noconvert(), "v"_a.noconvert(), "kv_type"_a, "k_cache"_a.noconvert(), "v_cache"_a.noconvert(),
             "block_size"_a, "head_dim"_a, "slots"_a.noconvert())
        .def("choose", &Backend::choose, "logits"_a.noconvert(), "rows"_a.noconvert(), "starts"_a.noconvert(), "token_ids"_a.noconvert(),
             "mask"_a.noconvert().none(), "changes"_a.noconvert().none(), "tokens"_a.noconvert(), "logprobs"_a.noconvert().none())
        .def("nearest_iq4_kt", &Backend::nearest_iq4_kt, "high_offset"_a, "targets"_a.noconvert(), "weights"_a.noconvert(), "out"_a.noconvert())
        .def("attention", &Backend::attention, "q"_a.noconvert(), "kv_type"_a, "k_cache"_a.noconvert(), "v_cache"_a.noconvert(),
             "block_size"_a, "head_dim"_a, "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "block_table"_a.noconvert(), "scale"_a, "window"_a.none(),
             "out"_a.noconvert());
    bind_delta_ops(backend);
    bind_expert_ops(module, backend);
    bind_latent_ops(backend);
    bind_indexer_ops(backend);
}
