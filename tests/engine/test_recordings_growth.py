"""Passes of any number of shapes share the memory of their results, and a model that is gone leaves none behind."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.forward import ForwardPass
from engine.loading import load_model
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.recordings import MAX_RECORDINGS, Recordings
from support.decode_shapes import BLOCK_SIZE, MAX_BATCH, N_VOCAB, OUTPUT_BYTES, decode, wide_model
from support.tiny_models import write_tiny_llama


def test_five_hundred_decode_shapes_grow_by_less_than_the_largest_output() -> None:
    """With logits of its own for every shape this was 800 MiB; the largest are 3.1 MiB."""
    program = "from support.decode_shapes import grow; grow()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "tests:."},
    )
    assert int(done.stdout) < OUTPUT_BYTES


def test_recorded_shapes_take_nothing_beside_the_reserved_outputs() -> None:
    """And replays give what the first pass gave, although all wrote to one memory."""
    ops = CpuOps(threads=1)
    ops.reserve_outputs(MAX_BATCH, N_VOCAB)
    forward = ForwardPass(wide_model(ops), ops, [], BLOCK_SIZE)
    shapes = [(n_seqs, 1) for n_seqs in (1, 7, 50, 8)]
    first = [decode(forward, *shape).copy() for shape in shapes]
    for shape, expected in zip(shapes, first, strict=True):
        np.testing.assert_array_equal(decode(forward, *shape), expected)
    assert ops._recording_arena.nbytes < OUTPUT_BYTES // 8


def test_on_a_gpu_shapes_share_the_reserved_outputs(cuda_ops: Ops) -> None:
    """Bytes are counted where they are allocated. Every key runs three times: seen, recorded, replayed."""
    n_columns = 96  # the width stands for the vocabulary's
    cuda_ops.reserve_outputs(64, n_columns)
    arena, recordings = cuda_ops._arena, Recordings()  # type: ignore[attr-defined]
    values = np.arange(64 * n_columns, dtype=np.float32)
    device_x = cuda_ops.load_vector(values)
    before = arena.n_bytes
    for i in range(500):
        n_rows = 1 + i % 64
        cuda_ops.begin_step()
        x = device_x.reshape(64, n_columns)
        x = type(x)(x.pointer, (n_rows, n_columns), x)
        for _ in range(3 if i < 70 else 1):
            out = cuda_ops.recorded(recordings, i, lambda x=x: cuda_ops.add(x, x))
        if i % 50 == 0:
            expected = 2 * values[: n_rows * n_columns].reshape(n_rows, n_columns)
            np.testing.assert_array_equal(cuda_ops.to_host(out), expected)
        del out
    assert arena.n_bytes == before
    assert len(recordings) == MAX_RECORDINGS


def test_the_recording_used_longest_ago_goes_first() -> None:
    recordings = Recordings()
    for i in range(MAX_RECORDINGS):
        recordings.put(i, f"recording {i}")
    assert recordings.get(0) == "recording 0"
    recordings.put("new", "another")
    assert recordings.get(0) is not None
    assert recordings.get(1) is None
    assert len(recordings) == MAX_RECORDINGS


@pytest.mark.parametrize("backend", ["cpu_ops", "cuda_ops"])
def test_an_engine_that_needs_more_memory_leaves_another_one_s_recordings_theirs(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    """One after the other over one backend: the second, larger one comes when the first has recorded its steps."""
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_layer=1), request.getfixturevalue(backend))

    def answers(engine: Engine, n_requests: int) -> list[tuple[str, tuple[int, ...]]]:
        for i in range(n_requests):
            engine.add(str(i), [1, 2, 3 + i], SamplingParams(max_tokens=5, ignore_eos=True, temperature=0))
        told = []
        while engine.has_work:
            told += [(event.request_id, event.token_ids) for event in engine.step()]
        return told

    first = Engine(loaded, EngineConfig(max_batch=2, kv_memory_bytes=1 << 20))
    expected = answers(first, 2)
    second = Engine(loaded, EngineConfig(max_batch=24, kv_memory_bytes=1 << 20))
    assert answers(second, 2) == expected
    assert len(answers(second, 24)) == 24 * 5
    assert answers(first, 2) == expected


@pytest.mark.parametrize("backend", ["cpu_ops", "cuda_ops"])
def test_a_model_that_has_run_goes_with_its_engine(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    """Its recordings were the backend's, and kept its weights: a third of a MiB for each tiny model."""
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf"), request.getfixturevalue(backend))
    engine = Engine(loaded, EngineConfig(max_batch=2, kv_memory_bytes=1 << 20))
    engine.add("a", [1, 2, 3], SamplingParams(max_tokens=4, ignore_eos=True, temperature=0))
    while engine.has_work:
        engine.step()
    gone = weakref.ref(loaded.model)
    del engine, loaded
    gc.collect()
    assert gone() is None
