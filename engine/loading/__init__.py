"""A model file to a model that runs: index, hyperparameters, weights, text. Nothing of the file stays mapped."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelFileError, ResourceError
from engine.loading.gguf_file import GGUFFile
from engine.loading.kt_trellis import Trellis, three_inst_types
from engine.loading.model_config import ModelConfig
from engine.loading.weights import FileWeights, Progress
from engine.models import ARCHITECTURES
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer, load_tokenizer
from kernels.ops import Ops

__all__ = ["LoadedModel", "ModelConfig", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A model in a backend's memory, with what turns text into its tokens and back."""

    path: Path
    name: str  # the file's stem
    config: ModelConfig
    model: Any  # an architecture of engine.models
    tokenizer: Tokenizer | None  # None: random weights, for benchmarks
    chat_template: ChatTemplate | None
    ops: Ops
    weight_bytes: int  # memory the backend holds
    file_bytes: int
    type_names: tuple[str, ...]  # of the matrices, most weights first
    notes: tuple[str, ...] = ()  # one line each: what a person should know


def load_model(
    path: str | os.PathLike[str], ops: Ops, kt_trellis: Trellis = "auto", progress: Progress | None = None
) -> LoadedModel:
    """Load a GGUF file. Raises ModelFileError (one line), ResourceError where memory is short."""
    with GGUFFile.open(path) as gguf:
        config = ModelConfig.from_metadata(gguf)
        tokenizer = _named(gguf, lambda: load_tokenizer(gguf.metadata))
        if tokenizer.n_vocab != config.n_vocab:
            raise ModelFileError(
                f"{gguf.path}: the vocabulary has {tokenizer.n_vocab} tokens, the model {config.n_vocab}"
            )
        template = _named(gguf, lambda: ChatTemplate.from_metadata(gguf.metadata, tokenizer))
        as_types = three_inst_types(gguf, ops, kt_trellis)
        weights = FileWeights(gguf, ops, as_types, progress)
        try:
            model = ARCHITECTURES[config.architecture](config, weights)
        except MemoryError:
            raise ResourceError(
                f"{gguf.path}: not enough memory for its {gguf.size >> 20} MiB of weights"
            ) from None
        gguf.check_unchanged()
        return LoadedModel(
            path=gguf.path,
            name=gguf.path.stem,
            config=config,
            model=model,
            tokenizer=tokenizer,
            chat_template=template,
            ops=ops,
            weight_bytes=weights.weight_bytes,
            file_bytes=gguf.size,
            type_names=_type_names(gguf, as_types),
            notes=_notes(as_types, weights),
        )


def _named(gguf: GGUFFile, read: Any) -> Any:
    """The file's path in front of what the text side says of its keys."""
    try:
        return read()
    except ModelFileError as error:
        raise ModelFileError(f"{gguf.path}: {error}") from error


def _type_names(gguf: GGUFFile, as_types: dict[int, Any]) -> tuple[str, ...]:
    n_weights: dict[str, int] = {}
    for tensor in gguf.tensors.values():
        if len(tensor.shape) > 1:
            name = as_types.get(tensor.ggml_type, tensor.type).name
            n_weights[name] = n_weights.get(name, 0) + tensor.shape[0] * tensor.n_rows
    return tuple(sorted(n_weights, key=lambda name: -n_weights[name]))


def _notes(as_types: dict[int, Any], weights: FileWeights) -> tuple[str, ...]:
    notes = []
    if as_types:
        names = ", ".join(sorted(t.name.removesuffix("_V1") for t in as_types.values()))
        notes.append(
            f"{names}: read as the fp16 3INST trellis of 2025 (--kt-trellis integer reads it otherwise)"
        )
    unread = weights.unread()
    if unread:
        shown = ", ".join(ascii(name)[1:-1] for name in unread[:3])
        notes.append(
            f"{len(unread)} tensors are not used by this architecture: {shown}{', ...' * (len(unread) > 3)}"
        )
    return tuple(notes)
