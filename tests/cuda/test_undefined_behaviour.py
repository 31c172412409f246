"""The kernels under g++'s undefined-behaviour sanitizer: misaligned vectors, indices, shifts, overflow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cuda_device import ON_CARD

FOLDER = Path(__file__).parent
#: A KT type with every form, a fp16 trellis, a K type with minimums, an IQ type with a codebook, a dense one.
TYPES = "IQ3_KT or IQ2_KT_V1 or Q4_K or IQ3_S or F16"


@pytest.mark.slow
@pytest.mark.skipif(ON_CARD, reason="host builds of the kernels")
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("test_linear_kernels.py", TYPES),
        ("test_attention_kernels.py", ""),
        ("test_tensor_attention.py", ""),
        ("test_latent_ops.py", ""),
        ("test_expert_kernels.py", "route or IQ2_KT or recorded"),
        ("test_delta_kernels.py", ""),
        ("test_activation_kernels.py", ""),
        ("test_sampling_kernels.py", ""),
    ],
)
def test_kernels_do_nothing_undefined(name: str, chosen: str) -> None:
    """In a process of its own: whether builds are sanitized is read once, when the emulator is imported."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-p",
        "no:cacheprovider",
        str(FOLDER / name),
        "-k",
        chosen,
    ]
    environment = {**os.environ, "ESPALIER_CUDA_UBSAN": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    output = result.stdout + result.stderr
    assert "runtime error" not in output, output[output.index("runtime error") - 200 :][:2000]
    assert result.returncode == 0, output[-2000:]
