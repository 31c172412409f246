"""Which form a launch of a few tokens takes: on a card the fastest of all that fit, timed when its shape first comes.

All forms give the same bits, so what was chosen changes no result. A choice is kept beside the cubins under the
card's name and the kernels' digest, and never timed again; it costs some fifty launches and the writing of a few
gigabytes. The tests' stand-in for a card has no speed: there the table of linear_forms.py decides.
"""

import json
import re
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kernels.cuda.compile import cache_folder, write_in_one_step
from kernels.cuda.device import Device, Launch
from kernels.cuda.errors import CudaMemoryError
from kernels.cuda.linear_forms import ALL_FORMS, LinearForm, form_for
from kernels.cuda.weights import DeviceMatrix

SAMPLES = 7  # the median of so many, each with its weights from memory
FLUSHED_CACHES = 2  # writing twice the second-level cache leaves nothing of the weights in it


class FormChooser:
    """The choices of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._chosen: dict[str, str] = {}  # kernels by key
        self._path = cache_folder() / f"forms-{re.sub(r'[^A-Za-z0-9]+', '-', device.name)}.json"
        if not device.emulated:
            self._chosen.update(_read(self._path))

    def form(
        self, matrices: Sequence[DeviceMatrix], n_tokens: int, launch_of: Callable[[LinearForm], Launch]
    ) -> LinearForm:
        """For one launch. launch_of: the launch with a form; it may be made several times."""
        by_table = form_for(matrices, n_tokens, self._device.n_multiprocessors)
        forms = {form.kernel: form for form in fitting_forms(matrices[0], n_tokens)}
        if self._device.emulated or len(forms) == 1:
            return by_table
        module, n_out = matrices[0].module, sum(matrix.n_out for matrix in matrices)
        # The cubin's name has the digest of all it is made of; tokens are padded as those of recorded passes are.
        cubin = self._device.cubin_path(module).stem
        key = f"{cubin} {n_out}x{matrices[0].n_in} {1 << (n_tokens - 1).bit_length()}"
        if self._chosen.get(key) not in forms:
            if self._device.holds_back:
                return by_table
            try:
                times = self._times([launch_of(form) for form in forms.values()])
            except CudaMemoryError:
                return by_table  # no room to time in: this once
            self._chosen[key] = min(zip(times, forms, strict=True))[1]
            self._keep(module, cubin)
        return forms[self._chosen[key]]

    def _times(self, launches: Sequence[Launch]) -> list[float]:
        """Microseconds. The host is done with its part while the device still writes the flushed bytes."""
        device = self._device
        flushed = device.allocate(FLUSHED_CACHES * device.l2_bytes)
        times = []
        for launch in launches:
            device.start(launch)  # loads its module
            marks = []
            for _ in range(SAMPLES):
                device.clear(flushed.pointer, flushed.n_bytes)
                start = device.timestamp()
                device.start(launch)
                marks.append((start, device.timestamp()))
            times.append(statistics.median(device.elapsed_us(start, end) for start, end in marks))
        return times

    def _keep(self, module: str, cubin: str) -> None:
        """With what other processes have chosen since, and without the module's kernels of other digests."""
        chosen = (_read(self._path) | self._chosen).items()
        kept = {key: kernel for key, kernel in chosen if _module(key) != module or key.split()[0] == cubin}
        with suppress(OSError):  # then the next process times again
            write_in_one_step(self._path, json.dumps(kept, indent=1).encode())


def fitting_forms(matrix: DeviceMatrix, n_tokens: int) -> list[LinearForm]:
    """Every form that takes the matrix and the number of tokens."""
    return [
        form for form in ALL_FORMS[matrix.layout] if form.max_tokens is None or n_tokens <= form.max_tokens
    ]


def _read(path: Path) -> dict[str, str]:
    """Empty where there is none, or something else: it is only a shortcut."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(kernel) for key, kernel in content.items()} if isinstance(content, dict) else {}


def _module(key: str) -> str:
    return key.partition("-sm_")[0]
