"""The forms in which files hold latent attention, and what is said of files that cannot be run as they ask.

That each form is right, test_architectures.py shows beside transformers; here, that they are one model.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, EspalierError, ModelFileError
from engine.loading import LoadedModel, load_model
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from kernels import load_backend
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from support.architectures.latent import V3, glm_dsa, v3
from support.architectures.random_file import (
    SMALL,
    WIDE,
    RandomFile,
    as_float_tensors,
    draw_tensors,
    plain_values,
    write_file,
)
from support.forward_pass import logits_of
from support.gguf_writer import Tensor
from support.random_models import PLANES_LIMIT, TOKEN_IDS, difference

IDS = TOKEN_IDS[:40].tolist()
SPLIT, JOINED = v3(), v3(latent=replace(V3, split=False))


@pytest.fixture
def load(tmp_path: Path, cpu_ops: Ops) -> Callable[..., LoadedModel]:
    def loaded(model: RandomFile, tensors: list[Tensor] | None = None, ops: Ops = cpu_ops, **changed: Any):
        path = write_file(tmp_path / "m.gguf", model, tensors or draw_tensors(model), **changed)
        return load_model(path, ops)

    return loaded


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())


def split_in_two(tensors: list[Tensor], n_head: int, nope: int) -> list[Tensor]:
    """attn_kv_b as the two tensors that newer files have: keys' rows transposed, values' as they are."""
    out = []
    for tensor in tensors:
        if not tensor.name.endswith("attn_kv_b.weight"):
            out.append(tensor)
            continue
        heads = plain_values(tensor).astype("<f4").reshape(n_head, -1, tensor.shape[0])
        for name, part in (("k_b", heads[:, :nope].swapaxes(1, 2)), ("v_b", heads[:, nope:])):
            shape, data = part.shape[::-1], np.ascontiguousarray(part).tobytes()
            out.append(Tensor(tensor.name.replace("kv_b", name), "F32", shape, data))
    return out


def test_one_matrix_for_keys_and_values_is_the_two_of_newer_files(load: Callable[..., LoadedModel]) -> None:
    """Bit for bit, as a dense type keeps its numbers; also where a file has all three."""
    tensors = draw_tensors(JOINED)
    expected = logits_of(load(JOINED), IDS)
    halves = split_in_two(tensors, SMALL.n_head, V3.nope)
    assert same_bits(logits_of(load(SPLIT, halves), IDS), expected)
    joined = [tensor for tensor in tensors if tensor.name.endswith("attn_kv_b.weight")]
    both = load(SPLIT, [*halves, *joined])
    assert same_bits(logits_of(both, IDS), expected)
    assert any("what attn_k_b and attn_v_b hold too" in note for note in both.notes)


def test_stacks_may_be_written_as_matrices(load: Callable[..., LoadedModel]) -> None:
    """As ik_llama.cpp writes k_b and v_b when it makes them from one: heads one below the other."""
    flat = [
        tensor._replace(shape=(tensor.shape[0], tensor.shape[1] * tensor.shape[2]))
        if tensor.name.endswith(("attn_k_b.weight", "attn_v_b.weight"))
        else tensor
        for tensor in draw_tensors(SPLIT)
    ]
    assert same_bits(logits_of(load(SPLIT, flat), IDS), logits_of(load(SPLIT), IDS))


@pytest.mark.parametrize("type_name", ["IQ2_KT", "Q8_0"])
def test_a_quantized_matrix_of_both_keeps_what_its_type_stands_for(
    load: Callable[..., LoadedModel], type_name: str
) -> None:
    """The gain of its type with it. Keys' numbers are rounded to f16 once, 2e-4 of each."""
    model = v3(WIDE, replace(V3, query=256, split=False), types={"attn_kv_b": type_name})
    tensors, two_planes = draw_tensors(model), load_backend("cpu", planes=2)
    got, expected = (
        logits_of(load(model, given, two_planes), IDS) for given in (tensors, as_float_tensors(tensors))
    )
    assert difference(got, expected) < PLANES_LIMIT


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expert_gating_func": 1}, r"expert_group_count.*: is 4; 1 is needed where experts are chosen by a softmax"),
        ({"attention__key_length": 300}, r"attention\.key_length'.*: is 300; the cached row gives 288"),
        ({"attention__value_length": 128}, r"attention\.value_length'.*: is 128; the cached row gives 256"),
        ({"rope__dimension_count": 64}, r"rope\.dimension_count'.*: is 64; less than the 64 values of a head"),
        ({"attention__kv_lora_rank": None}, r"kv_lora_rank' is missing; an integer from 1 to"),
        ({"attention__q_lora_rank": None}, r"attn_q\.weight' is missing; the model needs one of shape \[96, 256\]"),
        ({"attention__indexer__top_k": 64}, r"attention\.indexer\.top_k.*sparse attention"),
    ],
)  # fmt: skip
def test_what_a_file_asks_for_and_does_not_get_is_named(
    load: Callable[..., LoadedModel], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(SPLIT, **changed)


@pytest.mark.parametrize(
    ("n_expert", "gating", "groups"), [(256, 2, (8, 4)), (256, 1, (1, 1)), (64, 2, (1, 1)), (256, None, (1, 1))]
)  # fmt: skip
def test_files_of_v3_that_do_not_name_its_groups_have_them(
    tmp_path: Path, n_expert: int, gating: int | None, groups: tuple[int, int]
) -> None:
    changed = {"expert_group_count": None, "expert_group_used_count": None, "expert_count": n_expert}
    path = write_file(tmp_path / "m.gguf", SPLIT, draw_tensors(SPLIT), **changed, expert_gating_func=gating)
    with GGUFFile.open(path) as gguf:
        routing = read_config(gguf).experts.routing  # type: ignore[attr-defined]
    assert (routing.n_group, routing.n_group_used) == groups


class WithoutIndexer(CpuOps):
    """A backend that lacks the operations of an indexer, as a device may."""

    has_indexer = False


def test_where_no_indexer_runs_no_request_is_longer_than_what_it_would_pick(
    load: Callable[..., LoadedModel], cpu_ops: Ops
) -> None:
    """Up to there it picks every token: attention is dense, with the same bits."""
    model = glm_dsa(top_k=48)
    held, free = load(model, ops=WithoutIndexer(threads=2)), load(model)
    assert (held.config.n_ctx_max, free.config.n_ctx_max) == (48, 512)
    assert any("requests are held to 48" in note and "indexer" in note for note in held.notes)
    assert not free.notes
    assert same_bits(logits_of(held, IDS), logits_of(free, IDS))
    with pytest.raises(EspalierError, match="49"):
        Engine(held, EngineConfig(ctx_size=49))


def test_a_layer_without_an_indexer_follows_the_one_before_it_and_the_first_has_one(
    load: Callable[..., LoadedModel],
) -> None:
    model = glm_dsa(top_k=20)
    tensors = draw_tensors(model)
    kept = [t for t in tensors if not t.name.startswith(("blk.1.indexer", "blk.2.indexer"))]
    logits = logits_of(load(model, kept), IDS)
    assert np.isfinite(logits).all()
    assert difference(logits[:20], logits_of(load(model), IDS)[:20]) == 0  # all are picked in any case
    assert difference(logits, logits_of(load(model), IDS)) > 0.01
    for missing in ("blk.0.indexer.proj.weight", "blk.1.indexer.k_norm.bias"):
        with pytest.raises(ModelFileError, match=missing):
            load(model, [t for t in tensors if t.name != missing])
