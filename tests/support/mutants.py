"""Damaged copies of right model files, each from its seed, and a process that loads them and runs what still loads.

`python -m support.mutants FIRST LAST FILE...` loads mutants FIRST to LAST - 1 of the files, one after another, the
whole way: index, tokenizer, template, weights, a prompt from the template, one token. It prints each seed before its
turn and what became of it. An error of our own is an answer; any other exception, a signal, a mutant that takes more
than CPU_SECONDS or MEMORY_BYTES ends the process, and the last line says which it was.
"""

import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import Engine, EngineConfig, EspalierError, SamplingParams, load_model
from engine.loading.gguf_file import GGUFFile
from kernels import load_backend
from kernels.ops import Ops

CPU_SECONDS = 2  # of one mutant, all threads together; a right file of this size takes a twentieth
MEMORY_BYTES = 256 << 20  # that a mutant may add to what the right files took
ADDRESS_BYTES = 4 << 30  # of the process: what is allocated and never touched counts here
BOUNDARIES = (
    0, 1, 2, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
MESSAGES = [
    {"role": "user", "content": "the inn"},
    {"role": "assistant", "content": "<s> re"},
    {"role": "user", "content": ""},
]


class Base(NamedTuple):
    """A right file, and where things are in it."""

    data: bytes
    key_positions: list[int]
    value_positions: list[int]  # of metadata values, behind their type
    length_positions: list[
        int
    ]  # of 64-bit words in the index that look like a length, a dimension, an offset
    n_index_bytes: int


def read_base(path: Path) -> Base:
    data = path.read_bytes()
    with GGUFFile.open(path) as gguf:
        positions = gguf.metadata.position_of
        n_index_bytes = min((t.offset for t in gguf.tensors.values()), default=len(data))
    values = [position + 8 + len(key.encode()) + 4 for key, position in positions.items()]
    words = (struct.unpack_from("<Q", data, at)[0] for at in range(n_index_bytes - 8))
    lengths = [at for at, word in enumerate(words) if 0 < word < 1 << 24]
    return Base(data, list(positions.values()), values, lengths, n_index_bytes)


def mutant(base: Base, rng: np.random.Generator) -> bytes:
    """One to four changes, most of them in the index: that is where files are wrong in interesting ways."""
    data = bytearray(base.data)
    for _ in range(rng.integers(1, 5)):
        change = _CHANGES[rng.integers(len(_CHANGES))]
        change(data, base, rng)
    return bytes(data)


def _flip_bits(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    end = len(data) if rng.random() < 0.3 else min(base.n_index_bytes, len(data))
    for at in rng.integers(0, max(end, 1), rng.integers(1, 9)):
        if at < len(data):
            data[at] ^= 1 << int(rng.integers(8))


def _truncate(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:  # else every other change would be hidden by this one
        del data[int(rng.integers(0, len(data) + 1)) :]


def _change_length(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    at = int(rng.choice(base.length_positions))
    near = (struct.unpack_from("<Q", base.data, at)[0] + int(rng.integers(-2, 3))) % 2**64
    _put(data, at, struct.pack("<Q", near if rng.random() < 0.3 else _boundary(rng)))


def _change_value(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    """A number of the metadata, or the length in front of a string or an array."""
    at = int(rng.choice(base.value_positions))
    _put(data, at, struct.pack("<Q", _boundary(rng))[: int(rng.choice([1, 4, 8]))])


def _change_type(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    _put(data, int(rng.choice(base.value_positions)) - 4, struct.pack("<I", int(rng.integers(0, 14))))


def _swap_spans(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    end = min(base.n_index_bytes, len(data))
    n = int(rng.integers(1, 200))
    if end <= 2 * n:
        return
    first, second = sorted(rng.integers(0, end - n, 2).tolist())
    if first + n <= second:
        swapped = data[second : second + n], data[first : first + n]
        data[first : first + n], data[second : second + n] = swapped


def _duplicate_key(data: bytearray, base: Base, rng: np.random.Generator) -> None:
    """A whole key once more, counted in the header; or a few bytes of it cut out."""
    i = int(rng.integers(len(base.key_positions) - 1))
    first, last = base.key_positions[i], base.key_positions[i + 1]
    if rng.random() < 0.3:
        del data[first : first + int(rng.integers(1, 64))]
    elif last <= len(data):
        data[first:first] = data[first:last]
        _put(data, 16, struct.pack("<Q", len(base.key_positions) + 1))


def _boundary(rng: np.random.Generator) -> int:
    return BOUNDARIES[rng.integers(len(BOUNDARIES))]


def _put(data: bytearray, at: int, value: bytes) -> None:
    if at + len(value) <= len(data):
        data[at : at + len(value)] = value


_CHANGES: tuple[Callable[[bytearray, Base, np.random.Generator], None], ...] = (
    _flip_bits, _truncate, _change_length, _change_value, _change_value, _change_type, _swap_spans, _duplicate_key,
)  # fmt: skip


def load_and_run(path: str, ops: Ops) -> str:
    """What became of the file: "refused: ..." at load, else "ran" or "failed: ...", both of a request."""
    try:
        loaded = load_model(path, ops)
        engine = Engine(loaded, EngineConfig(ctx_size=min(loaded.config.n_ctx_train, 256), max_batch=1))
    except EspalierError as error:
        assert "\n" not in str(error), error  # noqa: PT017
        return f"refused: {error}"
    try:
        assert loaded.chat_template is not None
        prompt = loaded.chat_template.encode(MESSAGES)[: engine.ctx_size - 1]
        engine.add("r", prompt, SamplingParams(max_tokens=1, seed=1))
    except EspalierError as error:
        return f"failed: {error}"
    while engine.has_work:
        events = engine.step()
    assert loaded.tokenizer is not None
    loaded.tokenizer.decode(i for event in events for i in event.token_ids)
    return "ran"


def main(first: int, last: int, paths: list[Path]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    ops = load_backend("cpu", threads=2)
    bases = [read_base(path) for path in paths]
    descriptor = os.memfd_create("mutant")
    path = f"/proc/self/fd/{descriptor}"
    for base_path in paths:
        assert load_and_run(str(base_path), ops) == "ran"
    most_bytes = _peak_bytes() + MEMORY_BYTES
    for seed in range(first, last):
        data = mutant(bases[seed % len(bases)], np.random.default_rng([seed, 1]))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
        print(seed, end=" ", flush=True)
        signal.setitimer(signal.ITIMER_PROF, 2 * CPU_SECONDS)  # its signal ends the process, whatever it does
        start = time.process_time()
        outcome = load_and_run(path, ops)
        assert time.process_time() - start < CPU_SECONDS, outcome
        assert _peak_bytes() < most_bytes, outcome
        print(ascii(outcome))
    signal.setitimer(signal.ITIMER_PROF, 0)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
