"""Array operations: one protocol (ops.py), one definition of every format (common/), several backends.

`load_backend` imports a backend only when it is asked for, so a CPU host never imports cupy
and a machine without the native module still has the reference.
"""

from typing import Any

BACKENDS = ("cpu", "reference", "cuda")


def load_backend(name: str, **options: Any) -> Any:
    """The Ops implementation `name`. Options: planes, and of "cpu" threads and isa, of "cuda" device and attention.

    Raises ValueError for a name this build does not have, and TypeError for an option the backend does not take.
    """
    if name == "cpu":
        from kernels.cpu.ops import CpuOps

        return CpuOps(**options)
    if name == "reference":
        from kernels.reference.ops import ReferenceOps

        return ReferenceOps(**options)
    if name == "cuda":
        from kernels.cuda.ops import CudaOps

        return CudaOps(**options)
    raise ValueError(f"no backend named {name!r}; this build has {', '.join(BACKENDS)}")
