"""Every tensor type through the CUDA backend: the CPU's bits from look-ups and from linears of any batch size."""

import numpy as np
import pytest

from kernels.ops import Ops
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight

N_OUT, N_IN = 37, 512  # rows that fill no tile
BOTH = frozenset({"linear", "embed"})


@pytest.mark.parametrize("type_name", TYPES)
def test_a_matrix_gives_the_cpu_s_bits(type_name: str, cpu_ops: Ops, cuda_ops: Ops) -> None:
    rng = np.random.default_rng()
    data = random_weight(type_name, N_OUT, N_IN, rng).reshape(-1)
    on_cpu = cpu_ops.load_quant(type_name, (N_OUT, N_IN), data, BOTH)
    on_gpu = cuda_ops.load_quant(type_name, (N_OUT, N_IN), data, BOTH)
    cuda_ops.begin_step()
    ids = np.array([3, N_OUT - 1, 0], np.int32)
    rows = cuda_ops.to_host(cuda_ops.embed(on_gpu, cuda_ops.index_array(ids)))
    np.testing.assert_array_equal(rows, cpu_ops.embed(on_cpu, cpu_ops.index_array(ids)))
    for n_tokens in (1, 3, 9):  # one token, a few, the matmul
        x = rng.standard_normal((n_tokens, N_IN)).astype(np.float32)
        on_device = cuda_ops.load_vector(x).reshape(n_tokens, N_IN)
        y = cuda_ops.to_host(cuda_ops.linear(on_device, on_gpu))
        np.testing.assert_array_equal(y, cpu_ops.linear(x, on_cpu))


@pytest.mark.parametrize("type_name", ["IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT"])
def test_a_table_that_no_linear_reads_gives_the_same_rows(
    type_name: str, cpu_ops: Ops, cuda_ops: Ops
) -> None:
    # The types with tiles lie as file rows there.
    data = random_weight(type_name, N_OUT, N_IN, np.random.default_rng()).reshape(-1)
    ids, embed = np.array([1, N_OUT - 1], np.int32), frozenset({"embed"})
    on_gpu = cuda_ops.load_quant(type_name, (N_OUT, N_IN), data, embed)
    cuda_ops.begin_step()
    rows = cuda_ops.to_host(cuda_ops.embed(on_gpu, cuda_ops.index_array(ids)))
    on_cpu = cpu_ops.load_quant(type_name, (N_OUT, N_IN), data, embed)
    np.testing.assert_array_equal(rows, cpu_ops.embed(on_cpu, cpu_ops.index_array(ids)))
