"""What goes wrong between us and a GPU, in one line for the person at the keyboard."""


class CudaError(RuntimeError):
    """The device, its driver or its compiler cannot be used; the message says what was found and what would work."""


class CupyMissingError(CudaError):
    """CuPy does not load: nobody has asked this installation for CUDA, or its installation is broken."""


class CudaMemoryError(MemoryError):
    """Device memory does not hold what was asked for; the message says how much is missing."""
