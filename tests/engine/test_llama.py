"""The llama forward pass: right by a plain dense computation, and the same bits alone, batched and chunked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, ModelFileError, SamplingParams
from engine.kv_cache import CacheShape
from engine.loading import LoadedModel, load_model
from kernels import load_backend
from kernels.kv_type import KV_TYPES
from kernels.ops import Ops
from kernels.quant_tensor import FILE_TYPES
from kernels.reference.formats import dequantize
from kernels.reference.linear import linear_int8
from kernels.row_interleaving import plain_rows
from support.forward_pass import logits_of
from support.gguf_writer import Tensor, contents, write_gguf
from support.tiny_models import MIXED_TYPES, write_tiny_llama

PROMPTS = [
    [1, *np.random.default_rng(i).integers(3, 300, n).tolist()] for i, n in enumerate((4, 40, 9, 77, 1))
]


def dense_logits(loaded: LoadedModel, weights: dict[str, np.ndarray], token_ids: list[int]) -> np.ndarray:
    """The textbook forward pass in float64, without caches, batches or kernels."""
    cfg = loaded.config
    norm = lambda x: x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + cfg.rms_eps)  # noqa: E731
    x, n = weights["token_embd"][token_ids], len(token_ids)
    freqs = cfg.rope.freq_base ** (-np.arange(0, cfg.head_dim, 2) / cfg.head_dim)
    turn = np.exp(1j * np.arange(n)[:, None] * freqs)[:, None]
    for i in range(cfg.n_layer):
        part = {name.split(".")[2]: w for name, w in weights.items() if name.startswith(f"blk.{i}.")}
        h = norm(x) * part["attn_norm"]
        project = lambda name, heads, h=h, part=part: (  # noqa: E731
            h @ part[name].T + part.get(f"{name}_bias", 0)
        ).reshape(n, heads, cfg.head_dim)
        q, k, v = (
            project("attn_q", cfg.n_head),
            project("attn_k", cfg.n_head_kv),
            project("attn_v", cfg.n_head_kv),
        )
        q, k = rotated(q, turn), rotated(k, turn)
        group = cfg.n_head // cfg.n_head_kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(cfg.head_dim)
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out = np.einsum("hqk,khd->qhd", p / p.sum(axis=-1, keepdims=True), v).reshape(n, -1)
        x = x + out @ part["attn_output"].T
        h = norm(x) * part["ffn_norm"]
        gate, up = h @ part["ffn_gate"].T, h @ part["ffn_up"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ part["ffn_down"].T
    return (norm(x) * weights["output_norm"]) @ weights.get("output", weights["token_embd"]).T


def rotated(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def plain_weights(tensors: list[Tensor]) -> dict[str, np.ndarray]:
    """The float64 weights that a file's tensors stand for; biases as NAME_bias."""
    out = {}
    for t in tensors:
        data = np.frombuffer(t.data, np.uint8)
        n_in, n_out = t.shape[0], t.shape[1] if len(t.shape) > 1 else 1
        values = dequantize(t.type_name, data, n_out, n_in).astype(np.float64)
        out[t.name.removesuffix(".weight").replace(".bias", "_bias")] = (
            values if len(t.shape) > 1 else values[0]
        )
    return out


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the next tiny model is made of."""
    tensors: list[Tensor] = []
    from support import tiny_models

    original = tiny_models.write_gguf

    def spy(path: Path, metadata: Any, made: Any, **options: Any) -> Path:
        tensors[:] = made
        return original(path, metadata, made, **options)

    monkeypatch.setattr(tiny_models, "write_gguf", spy)
    return tensors


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("types", "limit"), [({"*": "F32"}, 2e-3), (dict.fromkeys(MIXED_TYPES, "Q8_0"), 0.05)]
)
def test_agrees_with_a_plain_dense_computation(
    tmp_path: Path, ops: Ops, written: list[Tensor], types: dict[str, str], limit: float, tied: bool
) -> None:
    """F32 weights: what is left is the f16 cache, 2^-11 of a key or value. Q8_0: int8 activations, 0.5 % a linear."""
    path = write_tiny_llama(tmp_path / "m.gguf", types=types, tied=tied, biases=True)
    loaded = load_model(path, ops)
    got, expected = logits_of(loaded, PROMPTS[2]), dense_logits(loaded, plain_weights(written), PROMPTS[2])
    assert np.abs(got - expected).max() < limit * np.abs(expected).max()


@pytest.mark.parametrize("cuts", [(1,), (5, 6, 40), tuple(range(1, 78))])
def test_chunks_give_the_bits_of_one_shot(tmp_path: Path, cpu_ops: Ops, cuts: tuple[int, ...]) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_ctx=128), cpu_ops)
    got, expected = logits_of(loaded, PROMPTS[3], cuts), logits_of(loaded, PROMPTS[3])
    assert (got.view(np.uint32) == expected.view(np.uint32)).all()


def answers(loaded: LoadedModel, prompts: list[list[int]], **config: Any) -> list[list[int]]:
    engine = Engine(loaded, EngineConfig(**config))
    for i, prompt_ids in enumerate(prompts):
        engine.add(
            str(i), prompt_ids, SamplingParams(temperature=1.0, seed=i, max_tokens=30, ignore_eos=True)
        )
    out: list[list[int]] = [[] for _ in prompts]
    while engine.has_work:
        for event in engine.step():
            out[int(event.request_id)] += event.token_ids
    engine.check_integrity()
    return out


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_tokens_are_the_same_alone_and_in_any_company(tmp_path: Path, cpu_ops: Ops, kv_type: str) -> None:
    """Ragged n_ff, four query heads a KV head, nine tensor types in one file."""
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_head_kv=2), cpu_ops)
    together = answers(loaded, PROMPTS, kv_type=kv_type)
    assert answers(loaded, PROMPTS, kv_type=kv_type, step_tokens=7) == together
    assert answers(loaded, PROMPTS, kv_type=kv_type, max_batch=2) == together
    shape = CacheShape(loaded.model.cache_groups(), kv_type)
    few = 6 * shape.block_bytes(32)  # of the 12 blocks that all together would take: some are preempted
    assert answers(loaded, PROMPTS, kv_type=kv_type, kv_memory_bytes=few, ctx_size=128) == together
    for i, prompt_ids in enumerate(PROMPTS):
        engine = Engine(loaded, EngineConfig(kv_type=kv_type))
        engine.add("0", prompt_ids, SamplingParams(temperature=1.0, seed=i, max_tokens=30, ignore_eos=True))
        alone: list[int] = []
        while engine.has_work:
            for event in engine.step():
                alone += event.token_ids
        assert alone == together[i]


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_two_planes_of_activations_are_as_good_as_floats(
    tmp_path: Path, written: list[Tensor], name: str
) -> None:
    """The bound of F32 weights, whose activations are not rounded: what is left is the f16 cache."""
    path = write_tiny_llama(tmp_path / "m.gguf", types=dict.fromkeys(MIXED_TYPES, "Q8_0"), biases=True)
    loaded = load_model(path, load_backend(name, planes=2))
    got, expected = logits_of(loaded, PROMPTS[2]), dense_logits(loaded, plain_weights(written), PROMPTS[2])
    assert np.abs(got - expected).max() < 2e-3 * np.abs(expected).max()


def test_tokens_with_two_planes_are_the_same_alone_and_in_any_company(tmp_path: Path) -> None:
    loaded = load_model(
        write_tiny_llama(tmp_path / "m.gguf", n_head_kv=2), load_backend("cpu", threads=2, planes=2)
    )
    together = answers(loaded, PROMPTS)
    assert answers(loaded, PROMPTS, step_tokens=7) == together
    assert answers(loaded, PROMPTS, max_batch=1) == together


def test_a_missing_tensor_and_a_wrong_shape_are_named(
    tmp_path: Path, cpu_ops: Ops, written: list[Tensor]
) -> None:
    from support.tiny_models import write_gguf

    path = write_tiny_llama(tmp_path / "m.gguf")
    from engine.loading.gguf_file import GGUFFile

    with GGUFFile.open(path) as gguf:
        metadata = dict(gguf.metadata)
    kept = [t for t in written if t.name != "blk.1.ffn_up.weight"]
    write_gguf(path, metadata, kept)
    with pytest.raises(ModelFileError, match=r"'blk.1.ffn_up.weight' is missing"):
        load_model(path, cpu_ops)
    wrong = [t._replace(shape=(128, 512)) if t.name == "blk.0.attn_q.weight" else t for t in written]
    wrong = [
        t._replace(type_name="F32", data=bytes(128 * 512 * 4)) if t.shape == (128, 512) else t for t in wrong
    ]
    write_gguf(path, metadata, wrong)
    with pytest.raises(ModelFileError, match=r"'blk.0.attn_q.weight' .* shape \[128, 512\]"):
        load_model(path, cpu_ops)


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path, cpu_ops: Ops) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", metadata={"general.architecture": "mamba"})
    with pytest.raises(ModelFileError, match=r"mamba.*this build knows llama"):
        load_model(path, cpu_ops)


@pytest.mark.parametrize("type_name", ["IQ2_KT_V1", "IQ4_KT_V1"])
def test_3inst_files_are_read_as_such_when_told(tmp_path: Path, cpu_ops: Ops, type_name: str) -> None:
    types = {f"*.{part}.weight": type_name for part in ("attn_q", "attn_k", "ffn_gate", "ffn_up")}
    path = write_tiny_llama(tmp_path / "m.gguf", types=types)
    loaded = load_model(path, cpu_ops, kt_trellis="3inst")
    assert any("3INST" in note for note in loaded.notes)
    assert loaded.model.layers[0].attention.attn_q.type.name == type_name
    assert np.isfinite(logits_of(loaded, PROMPTS[0])).all()


def test_a_file_of_interleaved_rows_gives_the_bits_and_the_memory_of_the_plain_file(
    tmp_path: Path, cpu_ops: Ops
) -> None:
    parts = ("attn_q", "attn_k", "attn_output", "attn_v", "ffn_gate", "ffn_up")
    interleaved = [t for t in FILE_TYPES.values() if t.plain is not None and t.plain.name in FILE_TYPES]
    types = {f"*.{part}.weight": t.name for part, t in zip(parts, interleaved, strict=True)}
    path = write_tiny_llama(tmp_path / "r4.gguf", n_layer=1, types=types)
    metadata, tensors = contents(path)
    plain = write_gguf(tmp_path / "plain.gguf", metadata, [_plain(tensor) for tensor in tensors])
    one, other = load_model(path, cpu_ops), load_model(plain, cpu_ops)
    assert set(one.type_names) >= {t.name for t in interleaved}
    assert one.weight_bytes == other.weight_bytes
    assert (logits_of(one, PROMPTS[1]) == logits_of(other, PROMPTS[1])).all()


def test_interleaved_rows_that_no_file_has_plain_multiply_as_their_plain_form(
    tmp_path: Path, cpu_ops: Ops
) -> None:
    path = write_tiny_llama(
        tmp_path / "r4.gguf",
        n_layer=1,
        types={"*.attn_q.weight": "IQ1_S_R4", "*.attn_k.weight": "IQ1_M_R4", "*": "Q8_0"},
    )
    tensors = {tensor.name: tensor for tensor in contents(path)[1]}
    loaded = load_model(path, cpu_ops)
    assert {"IQ1_S_R4", "IQ1_M_R4"} <= set(loaded.type_names)
    attention = loaded.model.layers[0].attention
    x = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    for part, weight in (("attn_q", attention.attn_q), ("attn_k", attention.attn_k)):
        tensor = tensors[f"blk.0.{part}.weight"]
        plain = FILE_TYPES[tensor.type_name].plain
        assert plain is not None
        rows = plain_rows(plain, 256, np.frombuffer(tensor.data, np.uint8))
        cpu_ops.begin_step()
        assert (cpu_ops.linear(x, weight) == linear_int8(x, plain.name, rows, tensor.shape[1])).all()


def write_tailed(path: Path) -> Path:
    """Every matrix in rows of 160 or 416 weights, the vocabulary's too."""
    types = {"*.attn_*": "IQ4_KT", "*": "IQ3_KT"}
    return write_tiny_llama(path, n_layer=1, n_embd=160, n_head=5, n_head_kv=1, n_ff=416, types=types)


def test_a_model_whose_rows_all_have_tails_computes_what_its_weights_say(
    tmp_path: Path, cpu_ops: Ops
) -> None:
    """Beside the same weights as F32: int8 activations and the gain of IQ3_KT, 1 %, make the difference."""
    path = write_tailed(tmp_path / "tails.gguf")
    metadata, tensors = contents(path)
    floats = [
        t if len(t.shape) == 1 else t._replace(type_name="F32", data=as_floats(t).tobytes()) for t in tensors
    ]
    got, expected = (
        logits_of(load_model(p, cpu_ops), PROMPTS[1])
        for p in (path, write_gguf(tmp_path / "floats.gguf", metadata, floats))
    )
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def as_floats(tensor: Tensor) -> np.ndarray:
    return dequantize(
        tensor.type_name, np.frombuffer(tensor.data, np.uint8), tensor.shape[1], tensor.shape[0]
    )


def test_rows_with_tails_are_never_the_3inst_generation(tmp_path: Path, cpu_ops: Ops) -> None:
    path = write_tailed(tmp_path / "tails.gguf")
    with pytest.raises(
        ModelFileError, match=r"has rows of 160 weights, .* --kt-trellis integer reads the file"
    ):
        load_model(path, cpu_ops, kt_trellis="3inst")


def _plain(tensor: Tensor) -> Tensor:
    plain = FILE_TYPES[tensor.type_name].plain
    if plain is None:
        return tensor
    rows = plain_rows(plain, tensor.shape[0], np.frombuffer(tensor.data, np.uint8))
    return tensor._replace(type_name=plain.name, data=rows.tobytes())
