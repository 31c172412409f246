// The tokenizer's loops for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

void bind_text(nanobind::module_& module);

}  // namespace espalier
