"""A synthetic model as a GGUF file, for what reads files: another engine, a loader, a server.

Weight for weight the model that `espalier bench --synthetic` makes in memory, with a vocabulary that encodes any
text byte by byte; the other tokens are there because the shape has so many.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import EspalierError
from engine.loading.model_config import ModelConfig
from engine.loading.synthetic import VOCAB_MATRICES, find_shape, random_matrix
from engine.models import ARCHITECTURES
from engine.models.weight_source import LINEAR
from engine.quantization.gguf_writer import PlannedTensor, write_gguf_by_tensor
from engine.text.spm import SPACE
from engine.text.token_kind import TokenKind
from kernels.quant_tensor import TYPES, TYPES_BY_GGML_ID, QuantTensor

Progress = Callable[[int, int], None]  # bytes written, bytes in all


def write_synthetic(path: Path, shape_name: str, type_name: str, progress: Progress | None = None) -> Path:
    """A model of that shape and type at path, which must not exist; nothing is left there where writing fails.

    Raises EspalierError for an unknown name, a type that a file cannot name, or a disk that cannot hold it.
    """
    try:
        shape = find_shape(shape_name, type_name)
    except ValueError as error:
        raise EspalierError(f"--synthetic: {error}") from None
    if TYPES[type_name] not in TYPES_BY_GGML_ID.values():
        raise EspalierError(
            f"a GGUF file does not tell {type_name} from another type: it has no number of its own"
        )
    if path.exists():
        raise EspalierError(f"{path} is there already; name a file that is not")
    plan = SyntheticPlan(type_name, shape.vocab_type)
    ARCHITECTURES[shape.config.architecture](shape.config, plan)
    metadata = hyperparameters(shape.config, f"{shape_name}-{type_name}") | byte_vocabulary(
        shape.config.n_vocab
    )
    _write(path, metadata, plan.tensors, progress)
    return path


def _write(
    path: Path, metadata: dict[str, Any], tensors: list[PlannedTensor], progress: Progress | None
) -> None:
    needed = sum(tensor.nbytes for tensor in tensors)
    try:
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise EspalierError(
                f"{path} would take {needed / 2**20:.0f} MiB, and its disk has {free / 2**20:.0f} MiB free"
            )
        write_gguf_by_tensor(path, metadata, tensors, progress)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise EspalierError(f"{path} cannot be written: {error.strerror or error}") from None
        raise


class SyntheticPlan:
    """The WeightSource that notes what the builder asks for, in the order in which RandomWeights would make it."""

    def __init__(self, type_name: str, vocab_type: str) -> None:
        self.tensors: list[PlannedTensor] = []
        self._type_name = type_name
        self._vocab_type = vocab_type
        self._rng = np.random.default_rng(0)

    def has(self, name: str) -> bool:
        return name in VOCAB_MATRICES

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        type_name = self._vocab_type if name in VOCAB_MATRICES else self._type_name
        make = lambda: random_matrix(type_name, n_out, n_in, self._rng)  # noqa: E731
        self.tensors.append(PlannedTensor(name, type_name, (n_in, n_out), make))
        return QuantTensor(None, TYPES[type_name], (n_out, n_in), 0)

    def vector(self, name: str, n: int) -> np.ndarray:
        return self.host_vector(name, n)

    def optional_vector(self, name: str, n: int) -> None:
        return None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        """Norm weights: the only vectors of these models."""
        ones = np.ones(n, np.float32)
        self.tensors.append(PlannedTensor(name, "F32", (n,), lambda: ones.view(np.uint8)))
        return ones

    def to_device(self, values: np.ndarray) -> np.ndarray:
        return values


def hyperparameters(config: ModelConfig, name: str) -> dict[str, Any]:
    prefix = config.architecture
    return {
        "general.architecture": prefix,
        "general.name": name,
        "general.description": "Random weights, for measuring speed",
        f"{prefix}.context_length": config.n_ctx_train,
        f"{prefix}.embedding_length": config.n_embd,
        f"{prefix}.block_count": config.n_layer,
        f"{prefix}.feed_forward_length": config.n_ff,
        f"{prefix}.attention.head_count": config.n_head,
        f"{prefix}.attention.head_count_kv": config.n_head_kv,
        f"{prefix}.attention.layer_norm_rms_epsilon": config.rms_eps,
        f"{prefix}.rope.dimension_count": config.rope.n_rot,
        f"{prefix}.rope.freq_base": config.rope.freq_base,
        f"{prefix}.vocab_size": config.n_vocab,
    }


def byte_vocabulary(n_vocab: int) -> dict[str, Any]:
    """SPM: <unk>, <s>, </s>, a token for each byte, the space, then names that nothing is merged to.

    n_vocab >= 260.
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), SPACE]
    kinds = [
        TokenKind.UNKNOWN,
        TokenKind.CONTROL,
        TokenKind.CONTROL,
        *[TokenKind.BYTE] * 256,
        TokenKind.NORMAL,
    ]
    more = range(len(tokens), n_vocab)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*tokens, *(f"{SPACE}token{token_id}" for token_id in more)],
        "tokenizer.ggml.scores": -np.arange(n_vocab, dtype=np.float32),
        "tokenizer.ggml.token_type": np.array([*kinds, *[TokenKind.NORMAL] * len(more)], np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
