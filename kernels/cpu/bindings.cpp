// The only file of the CPU backend that knows Python. It checks what it is given (type, contiguity, shape, every
// id), releases the GIL and calls the kernels. Array arguments are never converted: a wrong dtype is a TypeError.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>

#include "common/dequantize.h"
#include "common/finite.h"
#include "cpu/ceilings_bindings.h"
#include "cpu/codeword_tree.h"
#include "cpu/dispatch.h"
#include "cpu/linear.h"
#include "cpu/packed_matrix.h"
#include "cpu/paged_attention.h"
#include "cpu/thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace espalier;

namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IdsOut = nb::ndarray<uint16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using CacheBytes = nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kChunkFloats = 1 << 14;  // an elementwise op's work below this is not worth waking a thread

[[noreturn]] void refuse(const std::string& what) { throw nb::value_error(what.c_str()); }
void require(bool good, const char* what) {
    if (!good) refuse(what);
}

template <class A>
int64_t dim(const A& a, size_t i) {
    return int64_t(a.shape(i));
}
template <class A>
int64_t last_dim(const A& a) {
    return a.ndim() == 0 ? 0 : dim(a, a.ndim() - 1);
}
template <class A, class B>
void require_same_shape(const A& a, const B& b, const char* what) {
    bool same = a.ndim() == b.ndim();
    for (size_t i = 0; same && i < a.ndim(); ++i) same = a.shape(i) == b.shape(i);
    require(same, what);
}
void require_ids(const Ints& ids, int64_t count, const char* what) {
    for (size_t i = 0; i < ids.size(); ++i) {
        const int64_t id = ids.data()[i];
        if (id < 0 || id >= count)
            refuse(std::string(what) + " " + std::to_string(id) + " is outside 0 .. " + std::to_string(count - 1));
    }
}

KvType kv_type_of(const std::string& name) {
    if (name == "f16") return KvType::kF16;
    if (name == "q8_0") return KvType::kQ8_0;
    refuse("no cache type named " + name);
}

// One layer's cache as Python hands it over: kernels/cpu/ops.py, PagedCache.
PagedCache cache_of(const std::string& type, const CacheBytes& k, const CacheBytes& v, int64_t block_size, int64_t head_dim) {
    const PagedCache cache{kv_type_of(type), k.data(), v.data(), dim(k, 0), dim(k, 1), head_dim, block_size};
    require(block_size > 0 && block_size % 16 == 0 && head_dim > 0 && cache.n_head_kv > 0,
            "a cache has heads, and blocks of a multiple of 16 positions");
    require(v.shape(0) == k.shape(0) && v.shape(1) == k.shape(1) && dim(k, 2) == cache.key_bytes() &&
                dim(v, 2) == cache.value_bytes(),
            "the key and value caches do not belong together");
    return cache;
}

TensorType type_of(const std::string& name) {
    TensorType type;
    if (!tensor_type_from_name(name.c_str(), type)) refuse("no tensor type named " + name);
    return type;
}

class Backend {
public:
    Backend(int n_threads, const std::string& isa)
        : tier_(choose_tier(isa)), linears_(*tier_.linears()), vectors_(*tier_.vectors()), pool_(n_threads), linear_(linears_, pool_) {}

    const char* isa() const { return tier_.isa; }
    int n_threads() const { return pool_.n_threads(); }

    std::unique_ptr<PackedMatrix> pack(const std::string& type, int64_t n_out, int64_t n_in, const Bytes& data) {
        auto matrix = std::make_unique<PackedMatrix>(type_of(type), n_out, n_in);
        require(int64_t(data.size()) == n_out * matrix->file_row_bytes(), "the data is not n_out rows of the type");
        const nb::gil_scoped_release no_gil;
        pool_.run(matrix->view().n_tiles(), [&](int64_t t, int) { matrix->pack_tiles(data.data(), t, t + 1); });
        return matrix;
    }

    // The first row of which a float of the file is NaN or infinite; -1 where there is none.
    int64_t first_nonfinite_row(const std::string& name, int64_t n_out, int64_t n_in, const Bytes& data) {
        const TensorType type = type_of(name);
        require(n_out > 0 && data.size() % size_t(n_out) == 0, "the data is not n_out rows of the type");
        const int64_t row_bytes = int64_t(data.size()) / n_out;
        std::atomic<int64_t> found{n_out};
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(n_out, n_in, [&](int64_t first, int64_t count) {
            for (int64_t row = first; row < std::min(first + count, found.load()); ++row) {
                if (row_is_finite(type, data.data() + row * row_bytes, n_in)) continue;
                for (int64_t before = found; row < before && !found.compare_exchange_weak(before, row);) {}
                return;
            }
        });
        return found == n_out ? -1 : found.load();
    }

    void embed_tiles(const PackedMatrix& table, const Ints& ids, const FloatsOut& out) {
        require_ids(ids, table.n_out(), "token id");
        require(out.ndim() == 2 && out.shape(0) == ids.size() && last_dim(out) == table.n_in(), "embed: out is [n_ids, n_in]");
        const nb::gil_scoped_release no_gil;
        pool_.run(int64_t(ids.size()), [&](int64_t i, int) { table.dequantize_row(ids.data()[i], out.data() + i * table.n_in()); });
    }

    void embed_rows(const std::string& name, const Bytes& data, int64_t n_rows, int64_t n_in, const Ints& ids, const FloatsOut& out) {
        const TensorType type = type_of(name);
        require_ids(ids, n_rows, "token id");
        require(out.ndim() == 2 && out.shape(0) == ids.size() && last_dim(out) == n_in, "embed: out is [n_ids, n_in]");
        require(n_rows > 0 && data.size() % size_t(n_rows) == 0, "embed: the data is not whole rows");
        const int64_t row_bytes = int64_t(data.size()) / n_rows;
        const nb::gil_scoped_release no_gil;
        pool_.run(int64_t(ids.size()), [&](int64_t i, int) {
            dequantize_row(type, data.data() + ids.data()[i] * row_bytes, n_in, out.data() + i * n_in);
        });
    }

    void linear(const Floats& x, const nb::list& matrices, const nb::list& outs) {
        require(x.ndim() == 2 && matrices.size() == outs.size(), "linear: x is [n_tokens, n_in], one out for each matrix");
        const int64_t n_tokens = dim(x, 0), n_in = dim(x, 1);
        jobs_.clear();
        for (size_t i = 0; i < matrices.size(); ++i) {
            const auto* matrix = nb::cast<const PackedMatrix*>(matrices[i]);
            const auto out = nb::cast<FloatsOut>(outs[i], false);
            require(matrix->n_in() == n_in, "linear: x has another width than the matrix");
            require(out.ndim() == 2 && dim(out, 0) == n_tokens && dim(out, 1) == matrix->n_out(), "linear: out is [n_tokens, n_out]");
            jobs_.push_back({matrix, out.data()});
        }
        if (n_tokens == 0 || jobs_.empty()) return;
        const nb::gil_scoped_release no_gil;
        linear_.run(x.data(), n_tokens, n_in, jobs_);
    }

    void take_rows(const Floats& x, const Ints& rows, const FloatsOut& out) {
        require(x.ndim() == 2, "take_rows: x is [n_tokens, n]");
        require_ids(rows, dim(x, 0), "row");
        require(out.ndim() == 2 && out.shape(0) == rows.size() && out.shape(1) == x.shape(1), "take_rows: out is [n_rows, n]");
        const nb::gil_scoped_release no_gil;
        const size_t n = x.shape(1);
        for (size_t i = 0; i < rows.size(); ++i)
            std::memcpy(out.data() + i * n, x.data() + size_t(rows.data()[i]) * n, n * sizeof(float));
    }

    void rms_norm(const Floats& x, const Floats& weight, float eps, const FloatsOut& out) {
        const int64_t n = last_dim(x);
        require(n > 0 && weight.ndim() == 1 && dim(weight, 0) == n, "rms_norm: weight has one value for each column of x");
        require_same_shape(x, out, "rms_norm: out has the shape of x");
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(int64_t(x.size()) / n, n, [&](int64_t first, int64_t count) {
            vectors_.rms_norm(x.data() + first * n, weight.data(), eps, n, count, out.data() + first * n);
        });
    }

    void silu_mul(const Floats& gate, const Floats& up, const FloatsOut& out) {
        require_same_shape(gate, up, "silu_mul: gate and up have one shape");
        require_same_shape(gate, out, "silu_mul: out has the shape of gate");
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(int64_t(gate.size()), 1, [&](int64_t first, int64_t count) {
            vectors_.silu_mul(gate.data() + first, up.data() + first, count, out.data() + first);
        });
    }

    void exp(const Floats& x, const FloatsOut& out) {
        require_same_shape(x, out, "exp: out has the shape of x");
        vectors_.exp(x.data(), int64_t(x.size()), out.data());
    }

    void add(const Floats& x, const Floats& y, const FloatsOut& out) {
        require_same_shape(x, y, "add: x and y have one shape");
        require_same_shape(x, out, "add: out has the shape of x");
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(int64_t(x.size()), 1, [&](int64_t first, int64_t count) {
            const float *a = x.data() + first, *b = y.data() + first;
            float* c = out.data() + first;
            for (int64_t i = 0; i < count; ++i) c[i] = a[i] + b[i];
        });
    }

    void add_bias(const Floats& x, const Floats& bias, const FloatsOut& out) {
        const int64_t n = last_dim(x);
        require(bias.ndim() == 1 && dim(bias, 0) == n && n > 0, "add_bias: bias has one value for each column of x");
        require_same_shape(x, out, "add_bias: out has the shape of x");
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(int64_t(x.size()) / n, n, [&](int64_t first, int64_t count) {
            for (int64_t row = first; row < first + count; ++row)
                for (int64_t i = 0; i < n; ++i) out.data()[row * n + i] = x.data()[row * n + i] + bias.data()[i];
        });
    }

    // Angles in double, as the reference has them: a float32 product loses whole turns at long positions.
    void rope_angles(const Ints& positions, const Floats& freqs, float mscale, const FloatsOut& out) {
        const int64_t n = int64_t(positions.size()), half = int64_t(freqs.size());
        require(out.ndim() == 3 && dim(out, 0) == n && dim(out, 1) == half && dim(out, 2) == 2,
                "rope_angles: out is [n_tokens, n_freqs, 2]");
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(n, 32 * half, [&](int64_t first, int64_t count) {
            for (int64_t t = first; t < first + count; ++t)
                for (int64_t i = 0; i < half; ++i) {
                    const double angle = double(positions.data()[t]) * double(freqs.data()[i]);
                    float* pair = out.data() + 2 * (t * half + i);
                    pair[0] = float(std::cos(angle) * double(mscale));
                    pair[1] = float(std::sin(angle) * double(mscale));
                }
        });
    }

    void rope(const Floats& x, const Floats& angles, bool interleaved, const FloatsOut& out) {
        require(x.ndim() == 3 && angles.ndim() == 3 && dim(angles, 2) == 2 && angles.shape(0) == x.shape(0) &&
                    2 * dim(angles, 1) <= dim(x, 2),
                "rope: x is [n_tokens, n_head, head_dim], angles [n_tokens, n_rot / 2, 2]");
        require_same_shape(x, out, "rope: out has the shape of x");
        const int64_t n_head = dim(x, 1), head_dim = dim(x, 2), half = dim(angles, 1);
        const nb::gil_scoped_release no_gil;
        rows_in_parallel(dim(x, 0), n_head * head_dim, [&](int64_t first, int64_t count) {
            for (int64_t t = first; t < first + count; ++t)
                for (int64_t h = 0; h < n_head; ++h) {
                    const int64_t at = (t * n_head + h) * head_dim;
                    rotate(x.data() + at, angles.data() + t * half * 2, half, head_dim, interleaved, out.data() + at);
                }
        });
    }

    void store_kv(const Floats& k, const Floats& v, const std::string& type, const CacheBytes& k_cache, const CacheBytes& v_cache,
                  int64_t block_size, int64_t head_dim, const Ints& slots) {
        require(k.ndim() == 3, "store_kv: k is [n_tokens, n_head_kv, head_dim]");
        require_same_shape(k, v, "store_kv: k and v have one shape");
        const PagedCache cache = cache_of(type, k_cache, v_cache, block_size, head_dim);
        require(dim(k, 1) == cache.n_head_kv && dim(k, 2) == cache.head_dim && slots.size() == k.shape(0),
                "store_kv: k, the cache and slots do not fit together");
        require_ids(slots, cache.n_blocks * cache.block_size, "slot");
        const int64_t n_tokens = int64_t(slots.size()), token_floats = cache.n_head_kv * cache.head_dim;
        const nb::gil_scoped_release no_gil;
        // A thread takes heads, not tokens: the keys of neighbouring tokens lie in one cache line.
        rows_in_parallel(cache.n_head_kv, 4 * n_tokens * cache.head_dim, [&](int64_t first, int64_t count) {
            for (int64_t t = 0; t < n_tokens; ++t)
                for (int64_t head = first; head < first + count; ++head)
                    vectors_.store_kv(k.data() + t * token_floats, v.data() + t * token_floats, cache, slots.data()[t], head);
        });
    }

    void attention(const Floats& q, const std::string& type, const CacheBytes& k_cache, const CacheBytes& v_cache,
                   int64_t block_size, int64_t head_dim, const Ints& query_start, const Ints& context_lens,
                   const Ints& block_table, float scale, const FloatsOut& out) {
        const PagedCache cache = cache_of(type, k_cache, v_cache, block_size, head_dim);
        require(q.ndim() == 3 && dim(q, 2) == cache.head_dim && dim(q, 1) % cache.n_head_kv == 0,
                "attention: q is [n_tokens, n_head, head_dim], n_head a multiple of the cache's");
        require_same_shape(q, out, "attention: out has the shape of q");
        require(block_table.ndim() == 2 && query_start.size() == context_lens.size() + 1 && dim(block_table, 0) == int64_t(context_lens.size()),
                "attention: query_start [n_seqs + 1], context_lens [n_seqs], block_table [n_seqs, max_blocks]");
        const AttentionPass pass{query_start.data(), context_lens.data(), block_table.data(), int64_t(context_lens.size()),
                                 dim(block_table, 1)};
        check_pass(pass, cache, dim(q, 0));
        const AttentionShape shape{dim(q, 1), dim(q, 1) / cache.n_head_kv, scale};
        const nb::gil_scoped_release no_gil;
        attention_.run(vectors_, pool_, q.data(), cache, shape, pass, out.data());
    }

    void nearest_iq4_kt(bool high_offset, const Floats& targets, const Floats& weights, const IdsOut& out) {
        require(targets.ndim() == 2 && dim(targets, 1) == 4 && out.shape(0) == targets.shape(0),
                "nearest_iq4_kt: targets is [n_groups, 4], out [n_groups]");
        require_same_shape(targets, weights, "nearest_iq4_kt: weights has the shape of targets");
        const nb::gil_scoped_release no_gil;
        const TreeIQ4KT& tree = iq4_kt_tree(high_offset);
        rows_in_parallel(int64_t(out.size()), kChunkFloats / 64, [&](int64_t first, int64_t count) {
            for (int64_t i = first; i < first + count; ++i)
                out.data()[i] = uint16_t(tree.nearest(targets.data() + 4 * i, weights.data() + 4 * i));
        });
    }

private:
    // f(first, count) over ranges of rows of about kChunkFloats each.
    template <class F>
    void rows_in_parallel(int64_t n_rows, int64_t row_floats, F f) {
        const int64_t rows = kChunkFloats / row_floats > 0 ? kChunkFloats / row_floats : 1;
        pool_.run((n_rows + rows - 1) / rows, [&](int64_t chunk, int) {
            const int64_t first = chunk * rows;
            f(first, n_rows - first < rows ? n_rows - first : rows);
        });
    }

    static void rotate(const float* x, const float* angles, int64_t half, int64_t head_dim, bool interleaved, float* y) {
        const int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
        for (int64_t i = 0; i < half; ++i) {
            const float low = x[i * step], high = x[i * step + apart], cosine = angles[2 * i], sine = angles[2 * i + 1];
            y[i * step] = low * cosine - high * sine;
            y[i * step + apart] = high * cosine + low * sine;
        }
        for (int64_t i = 2 * half; i < head_dim; ++i) y[i] = x[i];
    }

    static void check_pass(const AttentionPass& pass, const PagedCache& cache, int64_t n_tokens) {
        require(pass.query_start[0] == 0 && pass.query_start[pass.n_seqs] == n_tokens, "attention: query_start does not span q");
        for (int64_t seq = 0; seq < pass.n_seqs; ++seq) {
            const int64_t n = pass.query_start[seq + 1] - pass.query_start[seq], context = pass.context_lens[seq];
            require(n >= 0 && context >= n && context <= pass.max_blocks * cache.block_size,
                    "attention: a context is shorter than its queries or longer than its blocks");
            for (int64_t i = 0; i * cache.block_size < context; ++i) {
                const int64_t block = pass.block_table[seq * pass.max_blocks + i];
                if (block < 0 || block >= cache.n_blocks) refuse("block " + std::to_string(block) + " is not in the cache");
            }
        }
    }

    const Tier& tier_;
    const KernelTable& linears_;
    const VectorKernels& vectors_;
    ThreadPool pool_;
    LinearRunner linear_;
    std::vector<LinearJob> jobs_;
    PagedAttention attention_;
};

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "Espalier's CPU kernels";
    module.def("isa_tiers", [] {
        nb::list names;
        for (const Tier& tier : tiers())
            if (tier.available) names.append(tier.isa);
        return names;
    }, "The ISA tiers that this machine runs, worst to best.");
    module.def("kv_bytes", [](const std::string& kv_type, int64_t block_size, int64_t head_dim) {
        const PagedCache cache{kv_type_of(kv_type), nullptr, nullptr, 0, 0, head_dim, block_size};
        return nb::make_tuple(cache.key_bytes(), cache.value_bytes());
    }, "kv_type"_a, "block_size"_a, "head_dim"_a, "Bytes of one KV head's keys and values in one block.");
    bind_ceilings(module);
    nb::class_<PackedMatrix>(module, "PackedMatrix")
        .def_prop_ro("nbytes", &PackedMatrix::nbytes)
        .def_prop_ro("address", [](const PackedMatrix& matrix) { return reinterpret_cast<uintptr_t>(matrix.view().tiles); })
        .def_prop_ro("n_out", &PackedMatrix::n_out)
        .def_prop_ro("n_in", &PackedMatrix::n_in);

    nb::class_<Backend>(module, "Backend")
        .def(nb::init<int, const std::string&>(), "n_threads"_a, "isa"_a)
        .def_prop_ro("isa", &Backend::isa)
        .def_prop_ro("n_threads", &Backend::n_threads)
        .def("pack", &Backend::pack, "type"_a, "n_out"_a, "n_in"_a, "data"_a.noconvert())
        .def("first_nonfinite_row", &Backend::first_nonfinite_row, "type"_a, "n_out"_a, "n_in"_a, "data"_a.noconvert())
        .def("embed_tiles", &Backend::embed_tiles, "table"_a, "ids"_a.noconvert(), "out"_a.noconvert())
        .def("embed_rows", &Backend::embed_rows, "type"_a, "data"_a.noconvert(), "n_rows"_a, "n_in"_a, "ids"_a.noconvert(), "out"_a.noconvert())
        .def("linear", &Backend::linear, "x"_a.noconvert(), "matrices"_a, "outs"_a)
        .def("take_rows", &Backend::take_rows, "x"_a.noconvert(), "rows"_a.noconvert(), "out"_a.noconvert())
        .def("rms_norm", &Backend::rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "out"_a.noconvert())
        .def("silu_mul", &Backend::silu_mul, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert())
        .def("exp", &Backend::exp, "x"_a.noconvert(), "out"_a.noconvert())
        .def("add", &Backend::add, "x"_a.noconvert(), "y"_a.noconvert(), "out"_a.noconvert())
        .def("add_bias", &Backend::add_bias, "x"_a.noconvert(), "bias"_a.noconvert(), "out"_a.noconvert())
        .def("rope_angles", &Backend::rope_angles, "positions"_a.noconvert(), "freqs"_a.noconvert(), "mscale"_a, "out"_a.noconvert())
        .def("rope", &Backend::rope, "x"_a.noconvert(), "angles"_a.noconvert(), "interleaved"_a, "out"_a.noconvert())
        .def("store_kv", &Backend::store_kv, "k"_a.noconvert(), "v"_a.noconvert(), "kv_type"_a, "k_cache"_a.noconvert(), "v_cache"_a.noconvert(),
             "block_size"_a, "head_dim"_a, "slots"_a.noconvert())
        .def("nearest_iq4_kt", &Backend::nearest_iq4_kt, "high_offset"_a, "targets"_a.noconvert(), "weights"_a.noconvert(), "out"_a.noconvert())
        .def("attention", &Backend::attention, "q"_a.noconvert(), "kv_type"_a, "k_cache"_a.noconvert(), "v_cache"_a.noconvert(),
             "block_size"_a, "head_dim"_a, "query_start"_a.noconvert(), "context_lens"_a.noconvert(), "block_table"_a.noconvert(), "scale"_a, "out"_a.noconvert());
}
