"""What is measured: one case is one line of the table. Selections multiply out to cases."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from engine.loading.synthetic import SHAPES
from kernels.kv_type import KV_TYPES
from kernels.quant_tensor import TYPES

KT_TYPES = ("IQ2_KT", "IQ1_KT", "IQ3_KT", "IQ4_KT")
OTHER_TYPES = tuple(name for name in TYPES if name not in KT_TYPES)
MODELS = ("llama-0.85b", "llama-3.1-8b")  # shapes of synthetic models whose matrices and heads are measured
CACHE_STATES = ("cold", "hot")
BATCHES = (1, 2, 4, 8, 64, 512)
PREFILL_TOKENS = 512  # of an attention case: the last chunk of a prompt


class LinearCase(NamedTuple):
    """y = W x for `batch` tokens. cold: the weights come from memory; hot: from the caches where they fit."""

    type_name: str
    rows: int
    columns: int
    batch: int
    threads: int
    cache: str

    @property
    def op(self) -> str:
        return "linear"


class AttentionCase(NamedTuple):
    """Attention of the last `batch` tokens over a context; its keys and values come from memory."""

    kv_type: str
    n_head: int
    n_head_kv: int
    head_dim: int
    context: int
    batch: int
    threads: int

    @property
    def op(self) -> str:
        return "attention"


Case = LinearCase | AttentionCase


class Selection(NamedTuple):
    """All combinations of these. shapes (rows, columns); models of which attention is measured at each context."""

    tiers: tuple[str, ...]
    types: tuple[str, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = BATCHES
    threads: tuple[int, ...] = (1,)
    caches: tuple[str, ...] = ("cold",)
    models: tuple[str, ...] = ()
    contexts: tuple[int, ...] = ()
    kv_types: tuple[str, ...] = tuple(KV_TYPES)

    def cases(self) -> Iterator[tuple[str, Case]]:
        """(tier, case)"""
        for tier in self.tiers:
            for (rows, columns), name in product(self.shapes, self.types):
                for batch, threads, cache in product(self.batches, self.threads, self.caches):
                    yield tier, LinearCase(name, rows, columns, batch, threads, cache)
            for model, kv_type, context in product(self.models, self.kv_types, self.contexts):
                config = SHAPES[model].config
                for batch, threads in product((1, min(PREFILL_TOKENS, context)), self.threads):
                    heads = (config.n_head, config.n_head_kv, config.head_dim)
                    yield tier, AttentionCase(kv_type, *heads, context, batch, threads)


def projections() -> dict[str, tuple[int, int]]:
    """MODEL.MATRIX -> (rows, columns), of the synthetic models."""
    found: dict[str, tuple[int, int]] = {}
    for model in MODELS:
        c = SHAPES[model].config
        n_kv = c.n_head_kv * c.head_dim
        matrices = {
            "attn_q": (c.n_head * c.head_dim, c.n_embd), "attn_k": (n_kv, c.n_embd),
            "attn_output": (c.n_embd, c.n_head * c.head_dim), "ffn_up": (c.n_ff, c.n_embd),
            "ffn_down": (c.n_embd, c.n_ff), "output": (c.n_vocab, c.n_embd),
        }  # fmt: skip
        found |= {f"{model}.{name}": size for name, size in matrices.items()}
    return found


SMALL, LARGE = projections()["llama-0.85b.ffn_up"], projections()["llama-3.1-8b.ffn_down"]
SCALAR = (256, SMALL[1])  # the scalar tier is a hundred times slower


def whole(tiers: Sequence[str], n_cpus: int) -> list[Selection]:
    """A few minutes: the KT types in every way, the others for one token and for a prompt, attention."""
    fast = tuple(tier for tier in tiers if tier != "scalar")
    threads = tuple(dict.fromkeys((1, n_cpus)))
    return [
        Selection(fast, KT_TYPES, (SMALL,), BATCHES, threads),
        Selection(fast, KT_TYPES, (SMALL,), (1,), threads, ("hot",)),
        Selection(fast, KT_TYPES, (LARGE,), (1, 512), threads),
        Selection(fast, OTHER_TYPES, (SMALL,), (1, 512)),
        Selection(("scalar",), (*KT_TYPES, *OTHER_TYPES), (SCALAR,), (1, 64)),
        Selection(fast, threads=threads[-1:], models=MODELS, contexts=(2000, 8000)),
    ]


def quick(tiers: Sequence[str], n_cpus: int) -> list[Selection]:
    """Well under a minute: the KT types and two others on the best tier."""
    threads = tuple(dict.fromkeys((1, n_cpus)))
    return [
        Selection((tiers[-1],), (*KT_TYPES, "Q4_K", "Q8_0"), (SMALL,), (1, 8, 512), threads),
        Selection((tiers[-1],), threads=threads[-1:], models=("llama-0.85b",), contexts=(2000,)),
    ]
