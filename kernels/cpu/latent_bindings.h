// The operations on caches of latents, as methods of the backend that Python sees.
#pragma once

#include <nanobind/nanobind.h>

namespace espalier {

class Backend;

void bind_latent_ops(nanobind::class_<Backend>& backend);

}  // namespace espalier
