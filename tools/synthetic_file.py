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
from engine.loading.synthetic import SyntheticPlan, SyntheticShape, find_shape
from engine.models import build_model
from engine.quantization.gguf_writer import PlannedTensor, write_gguf_by_tensor
from engine.text.spm import SPACE
from engine.text.token_kind import TokenKind
from kernels.quant_tensor import TYPES, TYPES_BY_GGML_ID

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
    plan, config = SyntheticPlan(shape, type_name), shape.config
    build_model(config, plan)
    metadata = hyperparameters(shape, f"{shape_name}-{type_name}") | byte_vocabulary(config.n_vocab)
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


def hyperparameters(shape: SyntheticShape, name: str) -> dict[str, Any]:
    prefix = shape.architecture
    return {
        "general.architecture": prefix,
        "general.name": name,
        "general.description": "Random weights, for measuring speed",
    } | {f"{prefix}.{key}": value for key, value in shape.keys.items()}


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
