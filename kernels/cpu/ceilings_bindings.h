// The class Ceilings of the Python module; only benchmarks use it.
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

void bind_ceilings(nanobind::module_& module);

}  // namespace espalier
