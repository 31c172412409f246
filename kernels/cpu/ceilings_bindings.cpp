// ceilings.h for Python: each loop on all threads of a pool of its own, timed by the caller.
#include "cpu/ceilings_bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "cpu/dispatch.h"
#include "cpu/thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace espalier {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

class Ceilings {
public:
    Ceilings(int n_threads, const std::string& isa) : loops_(*choose_tier(isa).ceilings()), pool_(n_threads) {}

    // n of what the loop counts, on every thread together: "trellis" weights, "dots" or "fmas" multiply-adds.
    void run(const std::string& loop, int64_t n) {
        const auto work = loop == "trellis" ? loops_.trellis : loop == "dots" ? loops_.dots : loop == "fmas" ? loops_.fmas : nullptr;
        if (work == nullptr || n < 0) throw nb::value_error(("no ceiling named " + loop + ", or a negative count").c_str());
        const nb::gil_scoped_release no_gil;
        const int64_t n_chunks = 8 * pool_.n_threads();
        pool_.run(n_chunks, [&](int64_t, int) { work(n / n_chunks); });
    }

    // n_loops parallel loops of n_chunks chunks that do nothing: what waking and waiting cost. How many chunks ran.
    int64_t loops(int64_t n_loops, int64_t n_chunks) {
        std::atomic<int64_t> n_run{0};
        const nb::gil_scoped_release no_gil;
        for (int64_t i = 0; i < n_loops; ++i)
            pool_.run(n_chunks, [&](int64_t, int) { n_run.fetch_add(1, std::memory_order_relaxed); });
        return n_run;
    }

    void read(const Bytes& bytes) {
        const int64_t n = int64_t(bytes.size()) / 64 * 64;
        const nb::gil_scoped_release no_gil;
        const int64_t step = std::min(kReadBytes, std::max(n / (8 * pool_.n_threads()) / 64 * 64, int64_t(64)));
        pool_.run((n + step - 1) / step, [&](int64_t chunk, int) {
            loops_.read(bytes.data() + chunk * step, std::min(step, n - chunk * step));
        });
    }

private:
    static constexpr int64_t kReadBytes = 1 << 20;

    const CeilingLoops& loops_;
    ThreadPool pool_;
};

}  // namespace

void bind_ceilings(nb::module_& module) {
    nb::class_<Ceilings>(module, "Ceilings")
        .def(nb::init<int, const std::string&>(), "n_threads"_a, "isa"_a)
        .def("run", &Ceilings::run, "loop"_a, "n"_a)
        .def("loops", &Ceilings::loops, "n_loops"_a, "n_chunks"_a)
        .def("read", &Ceilings::read, "bytes"_a.noconvert());
}

}  // namespace espalier
