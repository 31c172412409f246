"""Recurrent operations on the emulated GPU: the CPU backend's bits, however a sequence is cut and in any company."""

from typing import Any

import numpy as np
import pytest

from kernels.batches import StateBatch
from kernels.cache_groups import StateGroup
from kernels.cuda.ops import CudaOps
from kernels.delta_ops import DeltaGates
from kernels.ops import Ops
from kernels.recordings import Recordings

EPS = 1e-6
#: n_k_head, n_head, key_dim, value_dim, n_taps: columns in registers and where they lie, widths that fill no warp.
SHAPES = [(2, 4, 128, 64, 4), (1, 3, 64, 40, 4), (1, 2, 20, 84, 2), (2, 2, 6, 130, 5)]
#: Passes over sequences 0, 1, ..: how many tokens each brings. Longer than a group of tokens that share memory.
PASSES = [(7, 2, 0), (1, 1, 1), (40, 0, 3), (1, 1, 1)]


class Layer:
    """One recurrent layer's weights and inputs on a backend, the same numbers on each."""

    def __init__(self, ops: Ops, shape: tuple[int, int, int, int, int], n_seqs: int) -> None:
        n_k_head, n_head, key_dim, value_dim, n_taps = shape
        self.ops, self.n_seqs = ops, n_seqs
        n_channels = 2 * n_k_head * key_dim + n_head * value_dim
        self.rng = np.random.default_rng(0)
        self.sizes = (n_channels, n_head)
        self.weight = ops.load_vector(self.normal(n_taps * n_channels))
        dt, a = self.normal(n_head), -np.exp(self.normal(n_head))
        self.gates = DeltaGates(ops.load_vector(dt), ops.load_vector(a))
        group = StateGroup(1, n_channels, n_taps, n_head, key_dim, value_dim)
        self.cache = ops.new_cache(group, n_seqs, 32)[0]
        self.n_before = [0] * n_seqs

    def normal(self, *size: int) -> np.ndarray:
        return self.rng.standard_normal(size).astype(np.float32)

    def on(self, x: np.ndarray) -> Any:
        return self.ops.load_vector(x).reshape(*x.shape) if isinstance(self.ops, CudaOps) else x

    def arrays(self, n_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_channels, n_head = self.sizes
        return (
            self.normal(n_tokens, n_channels),
            3 * self.normal(n_tokens, n_head),
            self.normal(n_tokens, n_head),
        )

    def batch(self, lengths: tuple[int, ...], n_padding: int) -> StateBatch:
        """Sequences in slots of another order, then padding ones of a token each."""
        for i, n in enumerate(lengths):
            self.n_before[i] += n
        padded = [*lengths, *[1] * n_padding]
        contexts = [*self.n_before, *[0] * n_padding]
        slots = [*range(self.n_seqs - 1, -1, -1), *[-1] * n_padding]
        ints = (np.cumsum([0, *padded]), np.array(contexts), np.array(slots))
        return StateBatch(*(self.ops.index_array(values.astype(np.int32)) for values in ints))

    def compute(self, batch: StateBatch, x: Any, alpha: Any, beta: Any) -> Any:
        qkv = self.ops.causal_conv(x, self.weight, self.cache, batch)
        return self.ops.delta_net(qkv, alpha, beta, self.gates, self.cache, batch, EPS)

    def run(self, lengths: tuple[int, ...], n_padding: int = 0) -> np.ndarray:
        inputs = self.arrays(sum(lengths) + n_padding)
        self.ops.begin_step()
        batch = self.batch(lengths, n_padding)
        out = self.compute(batch, *map(self.on, inputs))
        return np.array(self.ops.to_host(out))[: sum(lengths)]


def same_bits(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and bool((got.view(np.uint32) == expected.view(np.uint32)).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_sequences_go_on_from_pass_to_pass_as_on_the_cpu(
    cpu_ops: Ops, cuda_ops: Ops, shape: tuple[int, int, int, int, int]
) -> None:
    """Prompts, decode steps with padding sequences, and a sequence that brings no token."""
    cpu, cuda = Layer(cpu_ops, shape, 3), Layer(cuda_ops, shape, 3)
    for lengths in PASSES:
        n_padding = 1 if max(lengths) == 1 else 0
        assert same_bits(cuda.run(lengths, n_padding), cpu.run(lengths, n_padding)), lengths


def test_a_recorded_step_takes_each_state_on_once(cpu_ops: Ops, cuda_ops: Ops) -> None:
    """Run, recorded, replayed: the same states as on the CPU after each."""
    assert isinstance(cuda_ops, CudaOps)
    shape = SHAPES[0]
    cpu, cuda = Layer(cpu_ops, shape, 2), Layer(cuda_ops, shape, 2)
    recordings, inputs = Recordings(), [cuda.on(x) for x in cuda.arrays(2)]
    cpu.arrays(2)
    for _ in range(5):
        expected = cpu.run((1, 1))
        cuda_ops.begin_step()
        for array, values in zip(inputs, cuda.arrays(2), strict=True):
            cuda_ops.device.upload(array.pointer, values)
        batch = cuda.batch((1, 1), 0)
        out = cuda_ops.recorded(recordings, "key", lambda b=batch: cuda.compute(b, *inputs))
        assert same_bits(np.array(cuda_ops.to_host(out)), expected)


def test_gating_by_a_sigmoid_is_the_cpus(cpu_ops: Ops, cuda_ops: Ops) -> None:
    rng = np.random.default_rng(1)
    x, gate, residual = (5 * rng.standard_normal((3, 70)).astype(np.float32) for _ in range(3))
    one = gate[:, :1].copy()
    on = lambda values: cuda_ops.load_vector(values).reshape(*values.shape)  # noqa: E731
    cuda_ops.begin_step()
    assert same_bits(cuda_ops.to_host(cuda_ops.sigmoid_mul(on(x), on(gate))), cpu_ops.sigmoid_mul(x, gate))
    added = cuda_ops.add_gated(on(residual), on(x), on(one))
    assert same_bits(cuda_ops.to_host(added), cpu_ops.add_gated(residual, x, one))


def test_keys_wider_than_the_kernel_has_are_refused(cuda_ops: Ops) -> None:
    with pytest.raises(ValueError, match="recurrent keys of 4096 values"):
        cuda_ops.new_cache(StateGroup(1, 8200, 4, 1, 4096, 8), 1, 32)
