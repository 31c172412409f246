// NumPy arrays as the backend takes them, never converted: a wrong dtype is a TypeError. And the checks on them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

namespace espalier {

namespace nb = nanobind;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IdsOut = nb::ndarray<uint16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using CacheBytes = nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

[[noreturn]] inline void refuse(const std::string& what) { throw nb::value_error(what.c_str()); }
inline void require(bool good, const char* what) {
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
inline void require_ids(const int32_t* ids, int64_t n, int64_t count, const char* what) {
    for (int64_t i = 0; i < n; ++i)
        if (ids[i] < 0 || ids[i] >= count)
            refuse(std::string(what) + " " + std::to_string(ids[i]) + " is outside 0 .. " + std::to_string(count - 1));
}

}  // namespace espalier
