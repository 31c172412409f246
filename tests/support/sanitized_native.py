"""The native module is the file that ESPALIER_NATIVE names: import this before anything imports it.

Also a pytest plugin: -p support.sanitized_native.
"""

import importlib.util
import os
import sys

import kernels.cpu

NAME = "kernels.cpu._native"
_SPEC = importlib.util.spec_from_file_location(NAME, os.environ["ESPALIER_NATIVE"])
assert _SPEC is not None
assert _SPEC.loader is not None
_module = importlib.util.module_from_spec(_SPEC)
sys.modules[NAME] = _module
_SPEC.loader.exec_module(_module)
kernels.cpu._native = _module
