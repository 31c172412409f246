"""Models of any shape that an architecture allows: groupings, widths, numbers of experts and layers, forms."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from support.architectures.delta_net import Delta, qwen35
from support.architectures.grouped_query import gemma3, glm4moe, mistral3, qwen3moe, qwen3vl
from support.architectures.latent import Latent, flash, glm_dsa, lite, v3
from support.architectures.random_file import RandomFile, Sizes


def random_file(architecture: str, rng: np.random.Generator) -> RandomFile:
    return _BUILDERS[architecture](rng)


def _sizes(rng: np.random.Generator, **fixed: object) -> Sizes:
    n_head_kv = int(rng.integers(1, 4))
    n_expert = int(rng.choice([2, 5, 16, 33]))
    n_layer = int(rng.integers(1, 4))
    drawn = Sizes(
        n_layer=n_layer,
        n_embd=int(rng.choice([64, 96, 160])),
        n_ff=int(rng.choice([96, 160, 352])),
        n_head=n_head_kv * int(rng.integers(1, 5)),
        n_head_kv=n_head_kv,
        head_dim=int(rng.choice([32, 64, 96, 128])),
        n_expert=n_expert,
        n_used=int(rng.integers(1, min(n_expert, 9))),
        n_ff_expert=int(rng.choice([24, 32, 72])),
        n_shared=int(rng.integers(1, 3)),
        n_dense=int(rng.integers(0, n_layer + 1)),
        n_nextn=int(rng.integers(0, 2)),
        freq_base=float(rng.choice([1e4, 1e6, 1e7])),
        scale=float(rng.choice([1.0, 1.8, 2.5])),
    )
    return replace(drawn, **fixed)  # type: ignore[arg-type]  # fields of Sizes


def _shared_evenly(sizes: Sizes) -> Sizes:
    """n_embd a multiple of n_head, which some of transformers' classes ask for."""
    return replace(sizes, n_embd=16 * sizes.n_head)


def _delta(rng: np.random.Generator) -> Delta:
    n_k_head = int(rng.integers(1, 4))
    return Delta(
        n_k_head,
        n_v_head=n_k_head * int(rng.integers(1, 4)),
        width=int(rng.choice([16, 32, 64])),
        interval=int(rng.integers(1, 5)),
    )


def _qwen35(rng: np.random.Generator, architecture: str) -> RandomFile:
    """With a layer of attention at least: transformers has no model without one."""
    delta = _delta(rng)
    n_layer = delta.interval + int(rng.integers(0, 3))
    return qwen35(_sizes(rng, n_layer=n_layer), delta, architecture)


def _latent(rng: np.random.Generator, may_lack_query: bool = False) -> Latent:
    lacks = may_lack_query and bool(rng.integers(2))
    return Latent(
        width=int(rng.choice([32, 64, 160])),
        rope=int(rng.choice([16, 32, 64])),
        nope=int(rng.choice([32, 64])),
        value=int(rng.choice([32, 48, 96])),
        query=None if lacks else int(rng.choice([32, 72])),
        split=bool(rng.integers(2)),
    )


def _deepseek2(rng: np.random.Generator) -> RandomFile:
    build = (lite, v3, flash)[rng.integers(3)]
    sizes = _sizes(rng, n_nextn=0)
    if build is v3:
        sizes = replace(sizes, n_used=min(sizes.n_used, 4))  # of two groups of two
    if build is lite:
        sizes = _shared_evenly(sizes)
    return build(sizes, _latent(rng, may_lack_query=build is lite))


_BUILDERS: Mapping[str, Callable[[np.random.Generator], RandomFile]] = {
    "qwen3moe": lambda rng: qwen3moe(_sizes(rng, n_nextn=0), fused=bool(rng.integers(2))),
    "qwen3vl": lambda rng: qwen3vl(_sizes(rng, n_nextn=0)),
    "qwen3vlmoe": lambda rng: qwen3moe(_sizes(rng, n_nextn=0), "qwen3vlmoe"),
    "qwen35": lambda rng: _qwen35(rng, "qwen35"),
    "qwen35moe": lambda rng: _qwen35(rng, "qwen35moe"),
    "glm4moe": lambda rng: glm4moe(_sizes(rng), head_norm=bool(rng.integers(2))),
    "deepseek2": _deepseek2,
    "glm-dsa": lambda rng: glm_dsa(_sizes(rng), replace(_latent(rng), split=True)),
    "mistral3": lambda rng: mistral3(_sizes(rng, n_nextn=0), factor=float(rng.choice([2, 16]))),
    "gemma3": lambda rng: gemma3(
        _shared_evenly(_sizes(rng, n_nextn=0, n_layer=int(rng.integers(1, 9)))),
        window=int(rng.choice([1, 7, 64, 400])),
        tied=bool(rng.integers(2)),
        factor=float(rng.choice([1, 8])),
    ),
}
