"""Tokens chosen on the device (sampling.cu), and their ways: to the host beside later work, and to the next pass."""

from collections.abc import Callable

import numpy as np

from kernels.choice_row import LOGPROB_COLUMNS, Choices, Chosen, ChosenTokens, on_host
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
        tokens = self._choose(self._changed(logits, choices), choices)
        return Chosen(tokens, self._logprobs(logits, choices, tokens) if choices.gives_logprobs else None)

    def _changed(self, logits: DeviceArray, choices: Choices) -> DeviceArray:
        """A copy, where a row has changes or a mask."""
        if choices.changes is None and choices.mask is None:
            return logits
        (n_rows, n_vocab), mask = logits.shape, np.uint64(0) if choices.mask is None else choices.mask
        out = self._arena.take(n_rows, n_vocab)
        row = (logits, n_vocab, choices.rows, mask)
        self._run("sampling", "copy_allowed", (-(-n_vocab // SAMPLING_PART), n_rows), THREADS, *row, out)
        if choices.changes is not None:
            entries = (choices.changes, choices.starts, choices.token_ids)
            self._run("sampling", "change_logits", (n_rows,), THREADS, *row, *entries, out)
        return out

    def _choose(self, logits: DeviceArray, choices: Choices) -> DeviceArray:
        (n_rows, n_vocab), rows = logits.shape, choices.rows
        n_parts = -(-n_vocab // SAMPLING_PART)
        ids = self._arena.take(n_rows, n_parts)
        bounds = self._arena.take(n_rows, 2)  # 64 bits each
        out, keys = self._peaks(logits)
        row = (logits, n_vocab, rows, out, bounds)
        self._run("sampling", "draw_bounds", (n_rows,), THREADS, *row)
        self._run("sampling", "part_draws", (n_parts, n_rows), THREADS, *row, keys, ids)
        self._run("sampling", "draws", (n_rows,), 32, rows, keys, ids, n_parts, out)
        return out

    def _peaks(self, logits: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
        """[n_rows, 2]: the highest logit and its id; and [n_rows, n_parts] of 64 bits, which are free again."""
        n_rows, n_vocab = logits.shape
        n_parts = -(-n_vocab // SAMPLING_PART)
        keys, out = self._arena.take(n_rows, n_parts, 2), self._arena.take(n_rows, 2)
        self._run("sampling", "part_peaks", (n_parts, n_rows), THREADS, logits, n_vocab, keys)
        self._run("sampling", "peaks", (n_rows,), 32, logits, n_vocab, keys, n_parts, out)
        return out, keys

    def _logprobs(self, logits: DeviceArray, choices: Choices, tokens: DeviceArray) -> DeviceArray:
        n_rows, n_vocab = logits.shape
        n_parts = -(-n_vocab // SAMPLING_PART)
        peaks, sums = self._peaks(logits)
        out = self._arena.take(n_rows, LOGPROB_COLUMNS)
        row = (logits, n_vocab, choices.rows, peaks, sums)
        self._run("sampling", "part_masses", (n_parts, n_rows), THREADS, *row)
        self._run("sampling", "logprobs", (n_rows,), THREADS, *row, n_parts, tokens, out)
        return out

    def fetch(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        """`Ops.fetch_chosen`. Log-probabilities lie after the tokens in the host's buffer."""
        n_values = 0 if chosen.logprobs is None else n_rows * LOGPROB_COLUMNS
        host = self._host(8 * n_rows + 4 * n_values)
        tokens, logprobs = host[: 8 * n_rows], host[8 * n_rows :]
        self._device.download(tokens, chosen.tokens.pointer)
        if chosen.logprobs is not None:
            self._device.download(logprobs, chosen.logprobs.pointer)
        copied = self._device.mark()

        def wait() -> ChosenTokens:
            copied.synchronize()
            rows = logprobs.view(np.float32).reshape(n_rows, -1) if n_values else None
            return on_host(Chosen(tokens.view(np.float32).reshape(n_rows, 2), rows), n_rows)

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
