"""Tokens chosen on the device (sampling.cu), and their ways: to the host beside later work, and to the next pass."""

from collections.abc import Callable

import numpy as np

from kernels.choice_row import Choices, Chosen, ChosenTokens, on_host
from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.device import Device

SAMPLING_PART = 4096  # sampling.cu, kPart
THREADS = 256  # sampling.cu, kThreads
N_FETCHES = 2  # that may be under way: of a step, and of the one launched after it
FETCHED_ROWS = 256  # room for these from the start: making more waits for the device


class DeviceChooser:
    """What `CudaOps` does to choose tokens. run: as CudaOps launches, (module, kernel, grid, threads, *arguments)."""

    def __init__(self, device: Device, arena: Arena, run: Callable[..., None]) -> None:
        self._device = device
        self._arena = arena
        self._run = run
        self._hosts = [device.pinned(8 * FETCHED_ROWS) for _ in range(N_FETCHES)]  # used in turn
        self._n_fetches = 0

    def choose(self, logits: DeviceArray, choices: Choices) -> Chosen:
        n_rows, n_vocab = logits.shape
        rows, starts, token_ids, _, changes, _ = choices
        if changes is not None:
            entries = (changes, starts, token_ids)
            changed = self._arena.take(n_rows, n_vocab)
            self._run(
                "sampling", "change_logits", (n_rows,), THREADS, logits, n_vocab, rows, *entries, changed
            )
            logits = changed
        n_parts = -(-n_vocab // SAMPLING_PART)
        keys = self._arena.take(n_rows, n_parts, 2)  # 64 bits each
        ids = self._arena.take(n_rows, n_parts)
        bounds = self._arena.take(n_rows, 2)
        out = self._arena.take(n_rows, 2)
        self._run("sampling", "part_peaks", (n_parts, n_rows), THREADS, logits, n_vocab, keys)
        self._run("sampling", "peaks", (n_rows,), 32, logits, n_vocab, keys, n_parts, out)
        row = (logits, n_vocab, rows, out, bounds)
        self._run("sampling", "draw_bounds", (n_rows,), THREADS, *row)
        self._run("sampling", "part_draws", (n_parts, n_rows), THREADS, *row, keys, ids)
        self._run("sampling", "draws", (n_rows,), 32, rows, keys, ids, n_parts, out)
        return Chosen(out, None)

    def fetch(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        host = self._host(8 * n_rows)
        self._device.download(host, chosen.tokens.pointer)
        copied = self._device.mark()

        def wait() -> ChosenTokens:
            copied.synchronize()
            return on_host(Chosen(host.view(np.float32).reshape(n_rows, 2), None), n_rows)

        return wait

    def pass_on(self, chosen: Chosen, rows: DeviceArray, token_ids: DeviceArray) -> None:
        n = len(token_ids)
        self._run("sampling", "pass_on", (-(-n // 32),), 32, chosen.tokens, rows, n, token_ids)

    def _host(self, n_bytes: int) -> np.ndarray:
        """The buffer whose turn it is."""
        turn = self._n_fetches % N_FETCHES
        self._n_fetches += 1
        if self._hosts[turn].nbytes < n_bytes:
            self._device.synchronize()  # a fetch that nobody waited for may still be writing to the smaller one
            self._hosts[turn] = self._device.pinned(n_bytes)
        return self._hosts[turn][:n_bytes]
