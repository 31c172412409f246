// The operations on stacks of matrices, as methods of the backend that Python sees.
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

class Backend;

void bind_expert_ops(nanobind::module_& module, nanobind::class_<Backend>& backend);

}  // namespace espalier
