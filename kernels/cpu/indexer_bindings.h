// The operations of an indexer, as methods of the backend that Python sees.
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

class Backend;

void bind_indexer_ops(nanobind::class_<Backend>& backend);

}  // namespace espalier
