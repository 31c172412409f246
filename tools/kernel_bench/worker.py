"""One tier's cases, measured in this process: cases as JSON lines in, rows as JSON lines out, in the same order.

Started by runner.py with ESPALIER_ISA set. Neighbouring cases that need the same weights share them.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from engine.loading.synthetic import random_matrix
from kernels import load_backend
from kernels.batches import AttentionBatch
from kernels.cache_groups import PagedGroup
from kernels.quant_tensor import QuantTensor
from tools.kernel_bench.cases import AttentionCase, Case, LinearCase
from tools.kernel_bench.ceilings import Ceilings
from tools.kernel_bench.rows import Row
from tools.kernel_bench.timing import copies_beyond_caches, seconds_of

BLOCK_SIZE = 32
LINEAR = frozenset({"linear"})
TRELLIS_TYPES = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT")
DENSE_TYPES = ("F32", "F16", "BF16")


class Worker:
    """Backends and ceilings by thread count, and the weights of the last case."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._rng = np.random.default_rng(0)
        self._packer = load_backend("cpu")  # all threads
        self._ops: dict[int, Any] = {}
        self._ceilings: dict[int, Ceilings] = {}
        self._weights_of: tuple[str, int, int] | None = None
        self._weights: list[QuantTensor] = []

    def measure(self, case: Case) -> Row:
        if case.threads not in self._ops:
            self._ops[case.threads] = load_backend("cpu", threads=case.threads)
            isa = self._ops[case.threads].isa
            self._ceilings[case.threads] = Ceilings(case.threads, isa, 2 * self._budget_s)
        return self._linear(case) if isinstance(case, LinearCase) else self._attention(case)

    def _linear(self, case: LinearCase) -> Row:
        ops, cold = self._ops[case.threads], case.cache == "cold"
        weights = self._loaded(case)
        x = self._rng.standard_normal((case.batch, case.columns), np.float32)
        if not cold:
            weights = weights[:1]
        turn = in_turns(weights)
        seconds = self._median(lambda: ops.linear(x, next(turn)))
        n_weights = case.rows * case.columns
        loops = {name: share * n_weights for name, share in loops_of(case.type_name, case.batch).items()}
        return self._row(case, seconds, case.batch * n_weights, weights[0].nbytes, loops, cold)

    def _loaded(self, case: LinearCase) -> list[QuantTensor]:
        """As many copies as outgrow the caches."""
        key = (case.type_name, case.rows, case.columns)
        if key != self._weights_of:
            self._weights.clear()
            data = random_matrix(*key, self._rng)
            make: Callable[[], QuantTensor] = lambda: self._packer.load_quant(  # noqa: E731
                case.type_name, (case.rows, case.columns), data, LINEAR
            )
            self._weights.append(make())
            self._weights += [make() for _ in range(copies_beyond_caches(self._weights[0].nbytes) - 1)]
            self._weights_of = key
        return self._weights

    def _attention(self, case: AttentionCase) -> Row:
        ops, n_blocks = self._ops[case.threads], -(-case.context // BLOCK_SIZE)
        heads = (case.n_head_kv, case.head_dim)
        bytes_per_token = 2 * case.n_head_kv * case.head_dim * (2 if case.kv_type == "f16" else 34 / 32)
        nbytes = round(case.context * bytes_per_token)
        caches = ops.new_cache(
            PagedGroup(copies_beyond_caches(nbytes), *heads), n_blocks, BLOCK_SIZE, case.kv_type
        )
        k, v = (self._rng.standard_normal((case.context, *heads), np.float32) for _ in range(2))
        for layer in caches:
            ops.store_kv(k, v, layer, np.arange(case.context, dtype=np.int32))
        q = self._rng.standard_normal((case.batch, case.n_head, case.head_dim), np.float32)
        arrays = ([0, case.batch], [case.context], [list(range(n_blocks))])
        batch = AttentionBatch(*(ops.index_array(np.array(values)) for values in arrays))
        turn, scale = in_turns(caches), case.head_dim**-0.5
        seconds = self._median(lambda: ops.attention(q, next(turn), batch, scale))
        n_keys = sum(range(case.context - case.batch + 1, case.context + 1))  # causal, over all queries
        macs = 2 * case.n_head * case.head_dim * n_keys
        return self._row(case, seconds, macs, nbytes, {"fmas": macs}, True)

    def _median(self, call: Callable[[], object]) -> float:
        return statistics.median(seconds_of(call, self._budget_s))

    def _row(
        self, case: Case, seconds: float, macs: int, nbytes: int, loops: dict[str, float], cold: bool
    ) -> Row:
        ceiling = self._ceilings[case.threads].lowest(loops, nbytes, macs, cold)
        if isinstance(case, LinearCase):
            what: dict[str, Any] = {
                "type": case.type_name,
                "rows": case.rows,
                "columns": case.columns,
                "context": 0,
            }
        else:
            what = {
                "type": case.kv_type,
                "rows": case.n_head,
                "columns": case.head_dim,
                "context": case.context,
            }
        return Row(
            tier=self._ops[case.threads].isa,
            op=case.op,
            batch=case.batch,
            threads=case.threads,
            cache="cold" if cold else "hot",
            us=1e6 * seconds,
            us_per_token=1e6 * seconds / case.batch,
            gmacs_per_core=macs / seconds / 1e9 / case.threads,
            gbytes_per_s=nbytes / seconds / 1e9,
            ceiling_gmacs_per_core=ceiling.gmacs / case.threads,
            share=macs / seconds / 1e9 / ceiling.gmacs,
            bound=ceiling.name,
            **what,
        )


def loops_of(type_name: str, batch: int) -> dict[str, float]:
    """How often a weight counts in each of the ceilings' loops, at the least.

    A trellis weight costs a product, an AND and a dot, which for one token is the token's own; further tokens share
    the decoded byte. How the other types are decoded is not counted.
    """
    if type_name in DENSE_TYPES:
        return {"fmas": batch}
    if type_name not in TRELLIS_TYPES:
        return {"dots": batch}
    return {"trellis": 1} if batch == 1 else {"trellis": 1, "dots": batch}


def in_turns(things: list[Any]) -> Iterator[Any]:
    while True:
        yield from things


def main() -> None:
    """argv[1]: seconds for each case."""
    worker = Worker(float(sys.argv[1]))
    kinds = {"linear": LinearCase, "attention": AttentionCase}
    for line in sys.stdin:
        op, *values = json.loads(line)
        print(json.dumps(worker.measure(kinds[op](*values))), flush=True)


if __name__ == "__main__":
    main()
