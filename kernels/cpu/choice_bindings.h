// Where the fields of the records of a choice lie: tests hold them against NumPy's (kernels/choice_row.py).
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

void bind_choice_records(nanobind::module_& module);

}  // namespace espalier
