// The only file of the CPU backend that knows Python.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_native, module) { module.doc() = "Espalier's CPU kernels"; }
