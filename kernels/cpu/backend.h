// The CPU backend's operations on arrays: each checks shapes, then makes a step out of addresses (program.h) that runs
// without the GIL, and is kept where a program is being recorded.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>

#include "common/dequantize.h"
#include "common/finite.h"
#include "cpu/arrays.h"
#include "cpu/choice.h"
#include "cpu/codeword_tree.h"
#include "cpu/dispatch.h"
#include "cpu/indexer_pass.h"
#include "cpu/latent_pass.h"
#include "cpu/linear.h"
#include "cpu/packed_matrix.h"
#include "cpu/paged_attention.h"
#include "cpu/program.h"
#include "cpu/routing.h"
#include "cpu/stack_linear.h"
#include "cpu/thread_pool.h"

namespace espalier {

constexpr int64_t kChunkFloats = 1 << 14;  // an elementwise op's work below this is not worth waking a thread

inline KvType kv_type_of(const std::string& name) {
    if (name == "f16") return KvType::kF16;
    if (name == "q8_0") return KvType::kQ8_0;
    refuse("no cache type named " + name);
}

// Rows of latents that are scored and never attended to may also lie in float32.
inline KvType row_type_of(const std::string& name) { return name == "f32" ? KvType::kF32 : kv_type_of(name); }

// One layer's cache as Python hands it over: kernels/cpu/ops.py, PagedCache.
inline PagedCache cache_of(const std::string& type, const CacheBytes& k, const CacheBytes& v, int64_t block_size, int64_t head_dim) {
    const PagedCache cache{kv_type_of(type), k.data(), v.data(), dim(k, 0), dim(k, 1), head_dim, block_size};
    require(block_size > 0 && block_size % 16 == 0 && head_dim > 0 && cache.n_head_kv > 0,
            "a cache has heads, and blocks of a multiple of 16 positions");
    require(v.shape(0) == k.shape(0) && v.shape(1) == k.shape(1) && dim(k, 2) == cache.key_bytes() &&
                dim(v, 2) == cache.value_bytes(),
            "the key and value caches do not belong together");
    return cache;
}

inline TensorType type_of(const std::string& name) {
    TensorType type;
    if (!tensor_type_from_name(name.c_str(), type)) refuse("no tensor type named " + name);
    return type;
}

class Backend {
public:
    // planes: of int8 activations (linear_formula.h)
    Backend(int n_threads, const std::string& isa, int planes)
        : tier_(choose_tier(isa)),
          linears_(*tier_.linears()),
          vectors_(*tier_.vectors()),
          pool_(n_threads),
          linear_(linears_, vectors_, pool_, planes),
          stacks_(linears_, vectors_, pool_, planes),
          thread_floats_(size_t(n_threads)) {
        require(planes == 1 || planes == 2, "activations have one plane or two");
    }

    const char* isa() const { return tier_.isa; }
    int n_threads() const { return pool_.n_threads(); }

    // Runs a step, and keeps it where a program is being recorded.
    template <class F>
    void perform(const char* name, F step) {
        {
            const nb::gil_scoped_release no_gil;
            step();
        }
        if (recording_ != nullptr) recording_->add(name, std::move(step));
    }

    // What operations of other files run on.
    ThreadPool& pool() { return pool_; }
    StackRunner& stacks() { return stacks_; }
    const VectorKernels& vectors() const { return vectors_; }
    LatentAttention& latent_attention() { return latent_attention_; }
    Indexer& indexer() { return indexer_; }
    // Floats that a thread may use within one step.
    float* floats_of(int worker, int64_t n) { return thread_floats_[size_t(worker)].of<float>(n); }

    // f(first, count) over ranges of rows of about kChunkFloats each.
    template <class F>
    void rows_in_parallel(int64_t n_rows, int64_t row_floats, F f) {
        const int64_t rows = kChunkFloats / row_floats > 0 ? kChunkFloats / row_floats : 1;
        pool_.run((n_rows + rows - 1) / rows, [&](int64_t chunk, int) {
            const int64_t first = chunk * rows;
            f(first, n_rows - first < rows ? n_rows - first : rows);
        });
    }

    // f(token, router) for each token, with a router of its thread.
    template <class F>
    void tokens_in_parallel(int64_t n_tokens, int64_t token_floats, F f) {
        while (int(routers_.size()) < pool_.n_threads()) routers_.emplace_back(vectors_);
        const int64_t n_together = kChunkFloats / token_floats > 0 ? kChunkFloats / token_floats : 1;
        pool_.run((n_tokens + n_together - 1) / n_together, [&](int64_t chunk, int worker) {
            for (int64_t t = chunk * n_together; t < std::min((chunk + 1) * n_together, n_tokens); ++t) f(t, routers_[size_t(worker)]);
        });
    }

    // Operations run and become steps of a program from here on ...
    void begin_program() {
        require(recording_ == nullptr, "a program is being recorded already");
        recording_ = std::make_unique<Program>();
    }
    // ... to here.
    std::unique_ptr<Program> end_program() {
        require(recording_ != nullptr, "no program is being recorded");
        return std::move(recording_);
    }
    void run_program(const Program& program) {
        const nb::gil_scoped_release no_gil;
        program.run();
    }
    // The same, with (name, seconds) of each step.
    nb::list time_program(const Program& program) {
        std::vector<double> seconds;
        {
            const nb::gil_scoped_release no_gil;
            seconds = program.run_timed();
        }
        nb::list times;
        for (size_t i = 0; i < seconds.size(); ++i) times.append(nb::make_tuple(program.steps()[i].name, seconds[i]));
        return times;
    }

    std::unique_ptr<PackedMatrix> pack(const std::string& type, int64_t n_out, int64_t n_in, const Bytes& data) {
        auto matrix = std::make_unique<PackedMatrix>(type_of(type), n_out, n_in);
        require(int64_t(data.size()) == n_out * matrix->file_row_bytes(), "the data is not n_out rows of the type");
        const nb::gil_scoped_release no_gil;
        pool_.run(matrix->view().n_tiles(), [&](int64_t t, int) {
            matrix->pack_tile(t, data.data() + t * 16 * matrix->file_row_bytes(), std::min<int64_t>(16, n_out - t * 16));
        });
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
        require(out.ndim() == 2 && out.shape(0) == ids.size() && last_dim(out) == table.n_in(), "embed: out is [n_ids, n_in]");
        const int32_t* id = ids.data();
        float* y = out.data();
        perform("embed", [this, &table, id, n = int64_t(ids.size()), y] {
            require_ids(id, n, table.n_out(), "token id");
            pool_.run(n, [&](int64_t i, int) { table.dequantize_row(id[i], y + i * table.n_in()); });
        });
    }

    void embed_rows(const std::string& name, const Bytes& data, int64_t n_rows, int64_t n_in, const Ints& ids, const FloatsOut& out) {
        const TensorType type = type_of(name);
        require(out.ndim() == 2 && out.shape(0) == ids.size() && last_dim(out) == n_in, "embed: out is [n_ids, n_in]");
        require(n_rows > 0 && data.size() % size_t(n_rows) == 0, "embed: the data is not whole rows");
        const int64_t row_bytes = int64_t(data.size()) / n_rows;
        const uint8_t* rows = data.data();
        const int32_t* id = ids.data();
        float* y = out.data();
        perform("embed", [this, type, rows, row_bytes, n_rows, n_in, id, n = int64_t(ids.size()), y] {
            require_ids(id, n, n_rows, "token id");
            pool_.run(n, [&](int64_t i, int) { dequantize_row(type, rows + id[i] * row_bytes, n_in, y + i * n_in); });
        });
    }

    // outs[i] = x W_i; plus residual where one is given, of the first matrix's shape.
    void linear(const Floats& x, const nb::list& matrices, const nb::list& outs, std::optional<Floats> residual) {
        require(x.ndim() == 2 && matrices.size() == outs.size(), "linear: x is [n_tokens, n_in], one out for each matrix");
        const int64_t n_tokens = dim(x, 0), n_in = dim(x, 1);
        std::vector<LinearJob> jobs;
        for (size_t i = 0; i < matrices.size(); ++i) {
            const auto* matrix = nb::cast<const PackedMatrix*>(matrices[i]);
            const auto out = nb::cast<FloatsOut>(outs[i], false);
            require(matrix->n_in() == n_in, "linear: x has another width than the matrix");
            require(out.ndim() == 2 && dim(out, 0) == n_tokens && dim(out, 1) == matrix->n_out(), "linear: out is [n_tokens, n_out]");
            if (residual) require_same_shape(*residual, out, "linear: the residual has the shape of out");
            jobs.push_back({matrix, out.data(), residual ? residual->data() : nullptr});
        }
        if (n_tokens == 0 || jobs.empty()) return;
        perform("linear", [this, from = x.data(), n_tokens, n_in, jobs = std::move(jobs)] { linear_.run(from, n_tokens, n_in, jobs); });
    }

    void gated_linear(const Floats& x, const PackedMatrix& gate, const PackedMatrix& up, const FloatsOut& out) {
        require(x.ndim() == 2 && dim(x, 1) == gate.n_in() && dim(x, 1) == up.n_in() && gate.n_out() == up.n_out(),
                "gated_linear: x is [n_tokens, n_in], gate and up are [n_out, n_in]");
        const int64_t n_tokens = dim(x, 0), n_in = dim(x, 1);
        require(out.ndim() == 2 && dim(out, 0) == n_tokens && dim(out, 1) == gate.n_out(), "gated_linear: out is [n_tokens, n_out]");
        if (n_tokens == 0) return;
        const GatedJob job{&gate, &up, out.data()};
        perform("gated_linear", [this, from = x.data(), n_tokens, n_in, job] { linear_.run_gated(from, n_tokens, n_in, job); });
    }

    void take_rows(const Floats& x, const Ints& rows, const FloatsOut& out) {
        require(x.ndim() == 2, "take_rows: x is [n_tokens, n]");
        require(out.ndim() == 2 && out.shape(0) == rows.size() && out.shape(1) == x.shape(1), "take_rows: out is [n_rows, n]");
        const float* from = x.data();
        const int32_t* row = rows.data();
        float* y = out.data();
        perform("take_rows", [from, row, y, n_rows = int64_t(rows.size()), n_tokens = dim(x, 0), n = dim(x, 1)] {
            require_ids(row, n_rows, n_tokens, "row");
            for (int64_t i = 0; i < n_rows; ++i) std::memcpy(y + i * n, from + row[i] * n, size_t(n) * sizeof(float));
        });
    }

    void rms_norm(const Floats& x, const Floats& weight, float eps, const FloatsOut& out) {
        const int64_t n = last_dim(x);
        require(n > 0 && weight.ndim() == 1 && dim(weight, 0) == n, "rms_norm: weight has one value for each column of x");
        require_same_shape(x, out, "rms_norm: out has the shape of x");
        const float *from = x.data(), *scale = weight.data();
        float* y = out.data();
        perform("rms_norm", [this, from, scale, eps, y, n, n_rows = int64_t(x.size()) / n] {
            rows_in_parallel(n_rows, n, [&](int64_t first, int64_t count) {
                vectors_.rms_norm(from + first * n, scale, eps, n, count, y + first * n);
            });
        });
    }

    void silu_mul(const Floats& gate, const Floats& up, const FloatsOut& out) {
        activated_mul("silu_mul", vectors_.silu_mul, gate, up, out);
    }

    void gelu_mul(const Floats& gate, const Floats& up, const FloatsOut& out) {
        activated_mul("gelu_mul", vectors_.gelu_mul, gate, up, out);
    }

    void exp(const Floats& x, const FloatsOut& out) {
        require_same_shape(x, out, "exp: out has the shape of x");
        vectors_.exp(x.data(), int64_t(x.size()), out.data());
    }

    void add(const Floats& x, const Floats& y, const FloatsOut& out) {
        require_same_shape(x, y, "add: x and y have one shape");
        require_same_shape(x, out, "add: out has the shape of x");
        const float *a = x.data(), *b = y.data();
        float* c = out.data();
        perform("add", [this, a, b, c, n = int64_t(x.size())] {
            rows_in_parallel(n, 1, [&](int64_t first, int64_t count) {
                for (int64_t i = first; i < first + count; ++i) c[i] = a[i] + b[i];
            });
        });
    }

    void add_bias(const Floats& x, const Floats& bias, const FloatsOut& out) {
        const int64_t n = last_dim(x);
        require(bias.ndim() == 1 && dim(bias, 0) == n && n > 0, "add_bias: bias has one value for each column of x");
        require_same_shape(x, out, "add_bias: out has the shape of x");
        const float *from = x.data(), *b = bias.data();
        float* y = out.data();
        perform("add_bias", [this, from, b, y, n, n_rows = int64_t(x.size()) / n] {
            rows_in_parallel(n_rows, n, [&](int64_t first, int64_t count) {
                for (int64_t row = first; row < first + count; ++row)
                    for (int64_t i = 0; i < n; ++i) y[row * n + i] = from[row * n + i] + b[i];
            });
        });
    }

    void scale_by_position(const Floats& x, const Ints& positions, const Floats& factors, int64_t stride,
                           const FloatsOut& out) {
        const int64_t n = last_dim(x), n_rows = int64_t(positions.size()), last = int64_t(factors.size()) - 1;
        require(x.ndim() == 2 && dim(x, 0) == n_rows, "scale_by_position: x has one row for each position");
        require(stride > 0 && last >= 0, "scale_by_position: one factor at least, for a stride of one position at least");
        require_same_shape(x, out, "scale_by_position: out has the shape of x");
        const float *from = x.data(), *factor = factors.data();
        const int32_t* position = positions.data();
        float* y = out.data();
        perform("scale_by_position", [this, from, position, factor, stride, last, y, n, n_rows] {
            rows_in_parallel(n_rows, n, [&](int64_t first, int64_t count) {
                for (int64_t row = first; row < first + count; ++row) {
                    const float by = factor[std::clamp<int64_t>(position[row] / stride, 0, last)];
                    for (int64_t i = 0; i < n; ++i) y[row * n + i] = from[row * n + i] * by;
                }
            });
        });
    }

    // Angles in double, as the reference has them: a float32 product loses whole turns at long positions.
    void rope_angles(const Ints& positions, const Floats& freqs, float mscale, const FloatsOut& out) {
        const int64_t n = int64_t(positions.size()), half = int64_t(freqs.size());
        require(out.ndim() == 3 && dim(out, 0) == n && dim(out, 1) == half && dim(out, 2) == 2,
                "rope_angles: out is [n_tokens, n_freqs, 2]");
        const int32_t* position = positions.data();
        const float* freq = freqs.data();
        float* y = out.data();
        perform("rope_angles", [this, position, freq, mscale, y, n, half] {
            rows_in_parallel(n, 32 * half, [&](int64_t first, int64_t count) {
                for (int64_t t = first; t < first + count; ++t)
                    for (int64_t i = 0; i < half; ++i) {
                        const double angle = double(position[t]) * double(freq[i]);
                        float* pair = y + 2 * (t * half + i);
                        pair[0] = float(std::cos(angle) * double(mscale));
                        pair[1] = float(std::sin(angle) * double(mscale));
                    }
            });
        });
    }

    void rope(const Floats& x, const Floats& angles, bool interleaved, const FloatsOut& out) {
        require(x.ndim() == 3 && angles.ndim() == 3 && dim(angles, 2) == 2 && angles.shape(0) == x.shape(0) &&
                    2 * dim(angles, 1) <= dim(x, 2),
                "rope: x is [n_tokens, n_head, head_dim], angles [n_tokens, n_rot / 2, 2]");
        require_same_shape(x, out, "rope: out has the shape of x");
        const int64_t n_head = dim(x, 1), head_dim = dim(x, 2), half = dim(angles, 1);
        const float *from = x.data(), *angle = angles.data();
        float* y = out.data();
        perform("rope", [this, from, angle, y, n_tokens = dim(x, 0), n_head, head_dim, half, interleaved] {
            rows_in_parallel(n_tokens, n_head * head_dim, [&](int64_t first, int64_t count) {
                for (int64_t t = first; t < first + count; ++t)
                    for (int64_t h = 0; h < n_head; ++h) {
                        const int64_t at = (t * n_head + h) * head_dim;
                        rotate(from + at, angle + t * half * 2, half, head_dim, interleaved, y + at);
                    }
            });
        });
    }

    void store_kv(const Floats& k, const Floats& v, const std::string& type, const CacheBytes& k_cache, const CacheBytes& v_cache,
                  int64_t block_size, int64_t head_dim, const Ints& slots) {
        require(k.ndim() == 3, "store_kv: k is [n_tokens, n_head_kv, head_dim]");
        require_same_shape(k, v, "store_kv: k and v have one shape");
        const PagedCache cache = cache_of(type, k_cache, v_cache, block_size, head_dim);
        require(dim(k, 1) == cache.n_head_kv && dim(k, 2) == cache.head_dim && slots.size() == k.shape(0),
                "store_kv: k, the cache and slots do not fit together");
        const float *keys = k.data(), *values = v.data();
        const int32_t* slot = slots.data();
        perform("store_kv", [this, keys, values, cache, slot, n_tokens = int64_t(slots.size())] {
            require_ids(slot, n_tokens, cache.n_blocks * cache.block_size, "slot");
            const int64_t token_floats = cache.n_head_kv * cache.head_dim;
            // A thread takes heads, not tokens: the keys of neighbouring tokens lie in one cache line.
            rows_in_parallel(cache.n_head_kv, 4 * n_tokens * cache.head_dim, [&](int64_t first, int64_t count) {
                for (int64_t t = 0; t < n_tokens; ++t)
                    for (int64_t head = first; head < first + count; ++head)
                        vectors_.store_kv(keys + t * token_floats, values + t * token_floats, cache, slot[t], head);
            });
        });
    }

    void attention(const Floats& q, const std::string& type, const CacheBytes& k_cache, const CacheBytes& v_cache,
                   int64_t block_size, int64_t head_dim, const Ints& query_start, const Ints& context_lens,
                   const Ints& block_table, float scale, std::optional<int64_t> window, const FloatsOut& out) {
        const PagedCache cache = cache_of(type, k_cache, v_cache, block_size, head_dim);
        require(q.ndim() == 3 && dim(q, 2) == cache.head_dim && dim(q, 1) % cache.n_head_kv == 0,
                "attention: q is [n_tokens, n_head, head_dim], n_head a multiple of the cache's");
        require_same_shape(q, out, "attention: out has the shape of q");
        const AttentionPass pass = pass_of(query_start, context_lens, block_table);
        require(!window || *window > 0, "attention: a window has at least one position");
        const AttentionShape shape{dim(q, 1), dim(q, 1) / cache.n_head_kv, scale, window.value_or(INT64_MAX)};
        const float* from = q.data();
        float* y = out.data();
        perform("attention", [this, from, cache, shape, pass, y, n_tokens = dim(q, 0)] {
            check_pass(pass, cache, n_tokens);
            attention_.run(vectors_, pool_, from, cache, shape, pass, y);
        });
    }

    // mask and changes: [n_rows, ceil(n_vocab / 32)] and [n_changes, 4], or none. A row's changes end where starts says, however
    // many were there when a program was recorded: their array may be any length.
    void choose(const Floats& logits, const Ints& rows, const Ints& starts, const Ints& token_ids, const std::optional<Ints>& mask,
                const std::optional<Ints>& changes, const FloatsOut& tokens, const std::optional<FloatsOut>& logprobs) {
        require(logits.ndim() == 2 && dim(logits, 1) > 0, "choose: logits is [n_rows, n_vocab]");
        const int64_t n_rows = dim(logits, 0), n_vocab = dim(logits, 1), n_words = (n_vocab + 31) / 32;
        require(rows.ndim() == 2 && dim(rows, 0) == n_rows && rows.shape(1) * sizeof(int32_t) == sizeof(ChoiceRow),
                "choose: rows is [n_rows, the ints of a ChoiceRow]");
        require(reinterpret_cast<uintptr_t>(rows.data()) % alignof(ChoiceRow) == 0, "choose: rows lie on eight bytes");
        require(int64_t(starts.size()) == n_rows + 1, "choose: starts is [n_rows + 1]");
        require(!mask || (mask->ndim() == 2 && dim(*mask, 0) == n_rows && dim(*mask, 1) == n_words),
                "choose: mask is [n_rows, ceil(n_vocab / 32)]");
        require(!changes || (changes->ndim() == 2 && dim(*changes, 1) * 4 == int64_t(sizeof(Change))), "choose: changes is [n, 4]");
        require(tokens.ndim() == 2 && dim(tokens, 0) == n_rows && dim(tokens, 1) == 2, "choose: tokens is [n_rows, 2]");
        require(!logprobs || (logprobs->ndim() == 2 && dim(*logprobs, 0) == n_rows && dim(*logprobs, 1) == kLogprobColumns),
                "choose: logprobs is [n_rows, 41]");
        const ChoicePass pass{logits.data(), reinterpret_cast<const ChoiceRow*>(rows.data()), starts.data(), token_ids.data(),
                              mask ? mask->data() : nullptr, changes ? reinterpret_cast<const Change*>(changes->data()) : nullptr,
                              tokens.data(), logprobs ? logprobs->data() : nullptr, n_rows, n_vocab, int64_t(token_ids.size())};
        perform("choose", [this, pass] { choose_rows(pass); });
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
    struct ChoicePass {
        const float* logits;
        const ChoiceRow* rows;
        const int32_t *starts, *token_ids, *mask;
        const Change* changes;
        float *tokens, *logprobs;
        int64_t n_rows, n_vocab, n_tokens;
    };

    void choose_rows(const ChoicePass& pass) {
        for (int64_t i = 0; i < pass.n_rows; ++i) check_choice(pass, i);
        while (int(choosers_.size()) < pool_.n_threads()) choosers_.emplace_back(vectors_);
        pool_.run(pass.n_rows, [&](int64_t i, int worker) {
            const ChoiceRow& row = pass.rows[i];
            RowChanges changes{nullptr, 0, -1, row.has_mask ? pass.mask + i * ((pass.n_vocab + 31) / 32) : nullptr};
            if (pass.changes != nullptr) {
                changes.changes = pass.changes + pass.starts[i];
                changes.n_changes = pass.starts[i + 1] - pass.starts[i];
                if (row.n_unread) changes.unread = pass.token_ids[i];
            }
            float* logprobs = pass.logprobs != nullptr ? pass.logprobs + i * kLogprobColumns : nullptr;
            choosers_[size_t(worker)].run(pass.logits + i * pass.n_vocab, pass.n_vocab, row, changes, {pass.tokens + 2 * i, logprobs});
        });
    }

    static void check_choice(const ChoicePass& pass, int64_t i) {
        const ChoiceRow& row = pass.rows[i];
        require(!row.has_mask || pass.mask != nullptr, "choose: a row has a mask that is not there");
        if (pass.changes == nullptr) return;
        require(pass.starts[i] >= 0 && pass.starts[i] <= pass.starts[i + 1], "choose: starts go down");
        for (int64_t change = pass.starts[i]; change < pass.starts[i + 1]; ++change)
            require_ids(&pass.changes[change].token_id, 1, pass.n_vocab, "changed token");
        require(!row.n_unread || i < pass.n_tokens, "choose: a row's token is not in the pass");
        if (row.n_unread) require_ids(pass.token_ids + i, 1, pass.n_vocab, "token id");
    }

    void activated_mul(const char* name, void (*activate)(const float*, const float*, int64_t, float*), const Floats& gate,
                       const Floats& up, const FloatsOut& out) {
        require_same_shape(gate, up, "silu_mul, gelu_mul: gate and up have one shape");
        require_same_shape(gate, out, "silu_mul, gelu_mul: out has the shape of gate");
        const float *g = gate.data(), *u = up.data();
        float* y = out.data();
        perform(name, [this, activate, g, u, y, n = int64_t(gate.size())] {
            rows_in_parallel(n, 1, [&](int64_t first, int64_t count) { activate(g + first, u + first, count, y + first); });
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

    const Tier& tier_;
    const KernelTable& linears_;
    const VectorKernels& vectors_;
    ThreadPool pool_;
    LinearRunner linear_;
    StackRunner stacks_;
    PagedAttention attention_;
    LatentAttention latent_attention_;
    Indexer indexer_;
    std::vector<RowChooser> choosers_;  // one a thread, made at the first choice
    std::vector<Router> routers_;       // likewise
    std::vector<ScratchBuffer> thread_floats_;
    std::unique_ptr<Program> recording_;
};

}  // namespace espalier
