"""Whole models that are wrong in one place: `load_model` refuses each in one line that names the key or the tensor.

The index alone is tested in test_gguf_file_malformed.py; here are hyperparameters, vocabularies, templates, and the
tensors that do not fit them.
"""

import re
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine.errors import ModelFileError
from engine.loading import load_model
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from engine.models.config import RopeConfig
from kernels.ops import Ops
from kernels.quant_tensor import FILE_TYPES, TYPES, TYPES_BY_GGML_ID
from kernels.random_weights import random_weight
from support.gguf_writer import FLOAT64, INT32, UINT64, Tensor, Typed, contents, write_gguf
from support.tiny_models import write_tiny_llama

Keys, Tensors = dict[str, Any], list[Tensor]
NAN, INFINITE = float("nan"), float("inf")


class Wrong(NamedTuple):
    """keys: in place of the model's; None removes one. tensors: what becomes of them."""

    expected: str
    keys: Mapping[str, Any] = MappingProxyType({})
    tensors: Callable[[Tensors], Tensors] = list


def hyper(name: str, value: Any, expected: str | None = None) -> Wrong:
    """One hyperparameter of `llama`."""
    return Wrong(expected or rf"key 'llama\.{re.escape(name)}'", {f"llama.{name}": value})


def vocab(name: str, value: Any, expected: str | None = None) -> Wrong:
    return Wrong(expected or rf"tokenizer\.ggml\.{name}", {f"tokenizer.ggml.{name}": value})


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: [t for t in tensors if t.name != name]


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: [change(t) if t.name == name else t for t in tensors]


def reshaped(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    """The same bytes under another shape of as many weights."""
    return changed(name, lambda t: t._replace(shape=shape))


def zeros(name: str, type_name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    n_bytes = TYPES[type_name].row_bytes(shape[0]) * int(np.prod(shape[1:]))
    return changed(name, lambda t: Tensor(name, type_name, shape, bytes(n_bytes)))


def poked(name: str, at: int, value: bytes) -> Callable[[Tensors], Tensors]:
    """Other bytes in a tensor's data."""
    return changed(name, lambda t: t._replace(data=t.data[:at] + value + t.data[at + len(value) :]))


N_EMBD, N_FF, N_KV = 256, 512, 64
F32_NAN, F32_INFINITE = np.float32(NAN).tobytes(), np.float32(INFINITE).tobytes()
TOKENS = [f"t{i}" for i in range(300)]
WRONG = {
    "architecture missing": Wrong("'general.architecture' is missing", {"general.architecture": None}),
    "architecture unknown": Wrong("'general.architecture' is 'mamba'", {"general.architecture": "mamba"}),
    "architecture number": Wrong("'general.architecture' is '7'", {"general.architecture": 7}),
    "architecture of a megabyte": Wrong("'general.architecture' is 'aaa", {"general.architecture": "a" * 2**20}),
    "head_count 0": hyper("attention.head_count", 0),
    "head_count 2^32-1": hyper("attention.head_count", 2**32 - 1),
    "head_count missing": hyper("attention.head_count", None),
    "head_count text": hyper("attention.head_count", "8"),
    "head_count true": hyper("attention.head_count", True),
    "head_count of two layers, not one": hyper("attention.head_count", np.array([8, 8], np.uint32)),
    "head_count of no layer": hyper("attention.head_count", np.zeros(0, np.uint32)),
    "head_counts 0": hyper("attention.head_count", np.zeros(1, np.uint32)),
    "head_counts 2^63": hyper("attention.head_count", np.full(1, 2**63, np.uint64)),
    "head_counts in fractions": hyper("attention.head_count", np.full(1, 8.5, np.float32)),
    "head_counts true": hyper("attention.head_count", np.full(1, True)),
    "head_counts in words": hyper("attention.head_count", ["8"]),
    "heads of layers that differ": Wrong(
        r"'llama\.attention\.head_count_kv' at byte .* go from 1 to 2, .* all of one size",
        {"llama.block_count": 2, "llama.attention.head_count_kv": np.array([2, 1], np.int32)},
    ),
    "widths of layers that differ": Wrong(
        r"'llama\.feed_forward_length' at byte .* go from 0 to 512",
        {"llama.block_count": 3, "llama.feed_forward_length": np.array([512, 0, 512], np.int32)},
    ),
    "head_count no divisor of n_embd": hyper("attention.head_count", 7),
    "head_count_kv no divisor of head_count": hyper("attention.head_count_kv", 3),
    "head_count_kv 0": hyper("attention.head_count_kv", 0),
    "head_count_kv above head_count": hyper("attention.head_count_kv", 16),
    "block_count 0": hyper("block_count", 0),
    "block_count 2^31": hyper("block_count", 2**31),
    "block_count negative": hyper("block_count", Typed(INT32, -1)),
    "block_count 2^63": hyper("block_count", Typed(UINT64, 2**63)),
    "block_count one too many": hyper("block_count", 2, r"tensor 'blk\.1\.attn_norm\.weight' is missing"),
    "embedding_length 0": hyper("embedding_length", 0),
    "embedding_length 2^40": hyper("embedding_length", Typed(UINT64, 2**40)),
    "embedding_length of another model": hyper("embedding_length", 512, r"tensor 'token_embd\.weight' at byte"),
    "feed_forward_length 0": hyper("feed_forward_length", 0),
    "feed_forward_length of another model": hyper("feed_forward_length", 256, r"ffn_(gate|down)\.weight' at byte"),
    "context_length 0": hyper("context_length", 0),
    "context_length 2^32-1": hyper("context_length", 2**32 - 1),
    "context_length 2^63": hyper("context_length", Typed(UINT64, 2**63)),
    "odd head_dim": hyper("attention.head_count", 256, r"'llama\.attention\.key_length' is missing and would be 1"),
    "key_length 0": hyper("attention.key_length", 0),
    "key_length 2^31": hyper("attention.key_length", 2**31),
    "key_length odd": hyper("attention.key_length", 33, r"rope\.dimension_count|value_length"),
    "value_length another": hyper("attention.value_length", 16),
    "rms epsilon NaN": hyper("attention.layer_norm_rms_epsilon", NAN),
    "rms epsilon infinite": hyper("attention.layer_norm_rms_epsilon", INFINITE),
    "rms epsilon negative": hyper("attention.layer_norm_rms_epsilon", -1e-5),
    "rms epsilon missing": hyper("attention.layer_norm_rms_epsilon", None),
    "rope base NaN": hyper("rope.freq_base", NAN),
    "rope base 0": hyper("rope.freq_base", 0.0),
    "rope base negative": hyper("rope.freq_base", -10000.0),
    "rope base 1e300": hyper("rope.freq_base", Typed(FLOAT64, 1e300)),
    "rope base text": hyper("rope.freq_base", "10000"),
    "rope dimension odd": hyper("rope.dimension_count", 5),
    "rope dimension above head_dim": hyper("rope.dimension_count", 34),
    "rope dimension 0": hyper("rope.dimension_count", 0),
    "rope scaling unknown": hyper("rope.scaling.type", "spiral"),
    "rope factor NaN": hyper("rope.scaling.factor", NAN),
    "rope factor negative": hyper("rope.scaling.factor", -2.0),
    "rope original context 0": Wrong(
        r"'llama\.rope\.scaling\.original_context_length'",
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.original_context_length": 0},
    ),
    "experts": hyper("expert_count", 8),
    "vocab_size of another model": hyper("vocab_size", 77),
    "vocab_size 2^31": hyper("vocab_size", 2**31),
    "tokenizer missing": vocab("model", None),
    "tokenizer unknown": vocab("model", "rwkv"),
    "tokenizer number": vocab("model", 3),
    "tokens missing": vocab("tokens", None),
    "tokens empty": vocab("tokens", [], r"vocab_size' is missing and would be 0|tokenizer\.ggml\.tokens has 0"),
    "tokens numbers": vocab("tokens", np.arange(10, dtype=np.int32)),
    "token no UTF-8": Wrong(
        r"at byte \d+: tokenizer\.ggml\.tokens\[300\]",
        {f"tokenizer.ggml.{name}": value for name, value in
         {"tokens": [*TOKENS, "\udcff\udcfe"], "scores": np.zeros(301, np.float32),
          "token_type": np.ones(301, np.int32)}.items()},
    ),
    "token of 60 KiB": Wrong(
        r"tokenizer\.ggml\.tokens\[300\] is 60000 bytes long",
        {f"tokenizer.ggml.{name}": value for name, value in
         {"tokens": [*TOKENS, "a" * 60000], "scores": np.zeros(301, np.float32),
          "token_type": np.ones(301, np.int32)}.items()},
    ),
    "token of 1 MiB": vocab("tokens", [*TOKENS, "a" * 2**20], "tokens' at byte .* string 300 of 301 has 1048576"),
    "fewer scores than tokens": vocab("scores", np.zeros(5, np.float32)),
    "scores NaN": vocab("scores", np.full(5, NAN, np.float32)),
    "scores text": vocab("scores", ["1.0"] * 5),
    "fewer kinds than tokens": vocab("token_type", np.ones(5, np.int32)),
    "kinds no kind": vocab("token_type", np.full(5, 99, np.int32)),
    "BOS outside": vocab("bos_token_id", 2**31),
    "BOS negative": vocab("bos_token_id", Typed(INT32, -1)),
    "EOS a text": vocab("eos_token_id", "2"),
    "padding id text": vocab("padding_token_id", "0"),
    "add_bos number": vocab("add_bos_token", 7),
    "no byte and no unknown token": Wrong(
        r"tokenizer\.ggml\.tokens",
        {f"tokenizer.ggml.{name}": value for name, value in
         {"tokens": TOKENS, "scores": np.zeros(300, np.float32), "token_type": np.ones(300, np.int32)}.items()},
    ),
    "no token_embd": Wrong(r"tensor 'token_embd\.weight' is missing", {}, without("token_embd.weight")),
    "no output_norm": Wrong(r"tensor 'output_norm\.weight' is missing", {}, without("output_norm.weight")),
    "no attn_k": Wrong(r"'blk\.0\.attn_k\.weight' is missing", {}, without("blk.0.attn_k.weight")),
    "no ffn_down": Wrong(r"'blk\.0\.ffn_down\.weight' is missing", {}, without("blk.0.ffn_down.weight")),
    "no tensors": Wrong("is a vocabulary without a model; give the file that has the weights", {}, lambda _: []),
    "adapter": Wrong("is a LoRA adapter .*llama-export-lora", {"general.type": "adapter", "adapter.type": "lora"}),
    "adapter of 2024": Wrong(
        "is a LoRA adapter", {}, lambda ts: [ts[0]._replace(name=f"blk.0.attn_q.weight.lora_{side}") for side in "ab"]
    ),
    "layer for further tokens alone": Wrong(
        "is only a model's layer for predicting", {},
        lambda ts: [*without("blk.0.attn_norm.weight")(ts), ts[0]._replace(name="blk.1.nextn.eh_proj.weight")],
    ),
    "imatrix": Wrong("is an importance matrix", {"general.type": "imatrix", "general.architecture": None}),
    "mmproj": Wrong("mmproj.*language model's own file", {"general.type": "mmproj", "general.architecture": "clip"}),
    "mmproj of 2024": Wrong("vision or audio part", {"general.architecture": "clip"}),
    "control vector": Wrong("is a control vector", {"general.architecture": "controlvector"}),
    "matrix as vector": Wrong(
        r"'blk\.0\.attn_q\.weight' at byte", {}, reshaped("blk.0.attn_q.weight", N_EMBD * N_EMBD)
    ),
    "vector as matrix": Wrong(r"'output_norm\.weight' at byte", {}, reshaped("output_norm.weight", 16, 16)),
    "a third dimension": Wrong(
        r"'blk\.0\.attn_q\.weight' at byte", {}, reshaped("blk.0.attn_q.weight", N_EMBD, N_EMBD // 2, 2)
    ),
    "transposed": Wrong(r"'blk\.0\.ffn_up\.weight' at byte", {}, reshaped("blk.0.ffn_up.weight", N_FF, N_EMBD)),
    "norm too short": Wrong(r"'blk\.0\.attn_norm\.weight' at byte", {}, zeros("blk.0.attn_norm.weight", "F32", 128)),
    "norm quantized": Wrong(r"is of type Q8_0", {}, zeros("blk.0.attn_norm.weight", "Q8_0", N_EMBD)),
    "one token too few": Wrong(r"'token_embd\.weight' at byte", {}, zeros("token_embd.weight", "Q8_0", N_EMBD, 3)),
    "keys of too many heads": Wrong(r"attn_k\.weight' at byte", {}, zeros("blk.0.attn_k.weight", "F32", N_EMBD, 128)),
    "norm NaN": Wrong(
        r"'blk\.0\.attn_norm\.weight' at byte \d+: value 3 of 256 is nan", {},
        poked("blk.0.attn_norm.weight", 12, F32_NAN),
    ),
    "norm infinite": Wrong(
        r"'output_norm\.weight' at byte \d+: value 0 of 256 is inf", {}, poked("output_norm.weight", 0, F32_INFINITE)
    ),
    "row factor NaN": Wrong(
        rf"'blk\.0\.attn_k\.weight' at byte \d+: row 1 of {N_KV}", {},
        poked("blk.0.attn_k.weight", TYPES["IQ3_KT"].row_bytes(N_EMBD), F32_NAN),
    ),
    "block factor infinite": Wrong(
        r"'token_embd\.weight' at byte \d+: row 0 of", {}, poked("token_embd.weight", 34, b"\x00\x7c")
    ),
    "rope divisors of another length": Wrong(
        r"'rope_freqs\.weight' at byte", {}, lambda ts: [*ts, Tensor("rope_freqs.weight", "F32", (3,), bytes(12))]
    ),
    "bias of another length": Wrong(
        r"'blk\.0\.attn_q\.bias' at byte", {}, lambda ts: [*ts, Tensor("blk.0.attn_q.bias", "F32", (4,), bytes(16))]
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, Tensors]:
    path = tmp_path_factory.mktemp("right") / "right.gguf"
    return contents(write_tiny_llama(path, n_layer=1, n_ff=N_FF))


def refusal(path: Path, ops: Ops) -> str:
    """The message, after checks that hold for every refusal: one line, the file's name, no hang, little memory."""
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(ModelFileError) as caught:
            load_model(path, ops)
        seconds, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.isascii()
    assert len(message) < 1000
    assert seconds < 2.0  # CPU time of this thread; a tracing one, several times slower than one at work
    assert peak < 64 << 20
    return message


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_is_refused_in_one_line(
    tmp_path: Path, right: tuple[Keys, Tensors], cpu_ops: Ops, name: str
) -> None:
    wrong, (metadata, tensors) = WRONG[name], right
    keys = {key: value for key, value in (metadata | dict(wrong.keys)).items() if value is not None}
    path = write_gguf(tmp_path / "wrong.gguf", keys, wrong.tensors(tensors))
    message = refusal(path, cpu_ops)
    assert re.search(wrong.expected, message), message


def test_the_model_that_the_wrong_ones_come_from_loads(
    tmp_path: Path, right: tuple[Keys, Tensors], cpu_ops: Ops
) -> None:
    assert load_model(write_gguf(tmp_path / "right.gguf", *right), cpu_ops).config.n_ff == N_FF


OPTIONAL = (
    "llama.attention.head_count_kv",
    "llama.rope.freq_base",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "general.name",
)


def test_what_the_peers_take_for_keys_that_are_not_there(tmp_path: Path, right: tuple[Keys, Tensors]) -> None:
    """llama.cpp's defaults: as many key heads as heads, heads of n_embd / n_head, all of it rotated about 10000."""
    keys = {name: value for name, value in right[0].items() if name not in OPTIONAL}
    with GGUFFile.open(write_gguf(tmp_path / "sparse.gguf", keys, right[1])) as gguf:
        config = read_config(gguf)
    assert (config.n_head_kv, config.head_dim, config.n_vocab) == (
        8,
        N_EMBD // 8,
        len(keys["tokenizer.ggml.tokens"]),
    )
    assert config.rope == RopeConfig(N_EMBD // 8, 10000.0, "none", original_context=config.n_ctx_train)
    assert config.sliding_window is None


def test_arrays_that_are_the_same_for_every_layer_are_their_number(tmp_path: Path, cpu_ops: Ops) -> None:
    numbers = {"attention.head_count": 8, "attention.head_count_kv": 2, "feed_forward_length": N_FF}
    arrays = {f"llama.{name}": np.full(3, n, np.int32) for name, n in numbers.items()}
    path = write_tiny_llama(tmp_path / "arrays.gguf", n_layer=3, n_ff=N_FF, metadata=arrays)
    config = load_model(path, cpu_ops).config
    assert (config.n_head, config.n_head_kv, config.n_ff) == (8, 2, N_FF)


@pytest.mark.parametrize("type_name", [t.name for t in TYPES_BY_GGML_ID.values()])
def test_a_factor_that_is_no_number_is_found_in_every_type(
    tmp_path: Path, right: tuple[Keys, Tensors], cpu_ops: Ops, type_name: str
) -> None:
    metadata, tensors = right
    name, rng = "blk.0.ffn_up.weight", np.random.default_rng(4)
    rows_in_unit = FILE_TYPES[type_name].rows_in_unit
    units = random_weight(type_name, N_FF, N_EMBD, rng).reshape(N_FF // rows_in_unit, -1).copy()
    units[76 // rows_in_unit] = 0xFF  # a NaN wherever a float lies, in either width
    broken = [Tensor(name, type_name, t.shape, units.tobytes()) if t.name == name else t for t in tensors]
    message = refusal(write_gguf(tmp_path / "nan.gguf", metadata, broken), cpu_ops)
    assert re.search(rf"tensor '{name}' at byte \d+: row 76 of {N_FF} holds a {type_name} factor", message)


def test_a_file_truncated_while_it_loads_is_one_line(
    tmp_path: Path, right: tuple[Keys, Tensors], cpu_ops: Ops
) -> None:
    path = write_gguf(tmp_path / "shrinks.gguf", *right)

    def truncate(done: int, total: int) -> None:
        if done > total // 3 and path.stat().st_size > 4096:
            with path.open("r+b") as file:
                file.truncate(4096)

    with pytest.raises(
        ModelFileError, match=r"shrinks\.gguf: byte \d+ is gone.* truncated while it was being loaded"
    ):
        load_model(path, cpu_ops, progress=truncate)


def test_a_file_overwritten_while_it_loads_is_one_line(
    tmp_path: Path, right: tuple[Keys, Tensors], cpu_ops: Ops
) -> None:
    path = write_gguf(tmp_path / "rewritten.gguf", *right)

    def overwrite(done: int, total: int) -> None:
        with path.open("r+b") as file:
            file.seek(-64, 2)
            file.write(bytes(64))

    with pytest.raises(ModelFileError, match=r"rewritten\.gguf: was written to while it was being loaded"):
        load_model(path, cpu_ops, progress=overwrite)
