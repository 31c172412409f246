"""A model of latents on the emulated GPU: the CPU backend's logits, bit for bit, however its tokens are cut."""

from pathlib import Path

import numpy as np
import pytest

from engine.loading import load_model
from kernels.ops import Ops
from support.architectures.latent import flash
from support.architectures.random_file import draw_tensors, write_file
from support.forward_pass import logits_of
from support.sequences import same_bits

N = 24


@pytest.mark.parametrize("cuts", [(), (5, 20), tuple(range(21, N))], ids=["whole", "chunks", "single tokens"])
def test_logits_are_the_cpus(tmp_path: Path, cpu_ops: Ops, cuda_ops: Ops, cuts: tuple[int, ...]) -> None:
    """GLM-4.7-Flash's form: queries through a latent of their own, experts, one dense layer."""
    path = write_file(tmp_path / "m.gguf", flash(), draw_tensors(flash()))
    expected, got = load_model(path, cpu_ops), load_model(path, cuda_ops)
    token_ids = np.random.default_rng(3).integers(3, expected.config.n_vocab, N).tolist()
    assert same_bits(logits_of(got, token_ids, cuts), logits_of(expected, token_ids))
