"""From a path to a model that can run: index, hyperparameters, tokenizer, template, then the weights.

The cheap checks come first, so that a file this build cannot serve is refused before gigabytes are read.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelFileError, ResourceError
from engine.loading.gguf_file import GGUFFile
from engine.loading.kt_trellis import Trellis, three_inst_types
from engine.loading.model_config import read_config
from engine.loading.placement import place, placement_note
from engine.loading.synthetic import RandomWeights, find_shape
from engine.loading.weight_plan import LoadPlan, plan_weights
from engine.loading.weights import FileWeights, Progress
from engine.models import build_model
from engine.models.config import ModelConfig
from engine.models.model import Model
from engine.text.chat_template import ChatTemplate
from engine.text.keys import TEMPLATE_KEY
from engine.text.template_families import ChosenTemplate
from engine.text.tokenizer import Tokenizer, load_tokenizer
from kernels import load_backend
from kernels.ops import Ops
from kernels.quant_tensor import QuantType

_KEY = re.compile(r"[\w.]+")  # as the text side's messages begin


@dataclass(frozen=True)
class LoadedModel:
    """A model on its backend, and the text side it came with; a synthetic one has no path and no text side."""

    path: Path | None
    name: str
    config: ModelConfig
    model: Model
    tokenizer: Tokenizer | None
    chat_template: ChatTemplate | None
    ops: Ops
    weight_bytes: int  # memory the backend holds
    file_bytes: int  # of the tensors in the file
    n_weights: int = 0  # in those tensors
    type_names: tuple[str, ...] = ()  # of the matrices, most bytes first
    notes: tuple[str, ...] = ()  # one-line remarks for the person who started the server

    @property
    def bits_per_weight(self) -> float:
        """Of the file, over all its tensors."""
        return 8 * self.file_bytes / self.n_weights


def load_model(
    path: str | os.PathLike[str],
    ops: Ops,
    kt_trellis: Trellis = "auto",
    progress: Progress | None = None,
    chat_template: ChosenTemplate | None = None,
    experts: str = "auto",
) -> LoadedModel:
    """chat_template: instead of the file's. experts: where they lie (placement.py).

    Raises ModelFileError for a file that cannot be served, ResourceError where memory runs out, EspalierError for
    experts that cannot lie there.
    """
    with GGUFFile.open(path) as gguf:
        config = read_config(gguf).on(ops)
        tokenizer, template = _load_text(gguf, chat_template)
        try:
            overrides = three_inst_types(gguf, ops, kt_trellis)
            plan = plan_weights(gguf, config, overrides)
            placement = place(gguf, ops, experts, plan.skipped, lambda: _host_for(ops))
            weights = FileWeights(gguf, placement, overrides, progress)
            model = build_model(config, weights)
        except MemoryError:
            raise ResourceError(
                f"{gguf.path}: not enough memory for its {gguf.size / 2**30:.2f} GiB; "
                "a smaller quantization may fit"
            ) from None
        gguf.check_unchanged()
    return LoadedModel(
        path=gguf.path,
        name=gguf.name,
        config=config,
        model=model,
        tokenizer=tokenizer,
        chat_template=template,
        ops=ops,
        weight_bytes=weights.bytes_held,
        file_bytes=sum(tensor.nbytes for tensor in gguf.tensors.values()),
        n_weights=sum(tensor.shape[0] * tensor.n_rows for tensor in gguf.tensors.values()),
        type_names=tuple(sorted(weights.type_bytes, key=lambda name: -weights.type_bytes[name])),
        notes=(
            *tokenizer.notes,
            *template.notes,
            *_notes(config, plan, overrides, kt_trellis),
            *filter(None, [placement_note(placement, gguf)]),
        ),
    )


def _host_for(ops: Ops) -> Ops:
    """The CPU backend that computes what lies beside a device, with the same planes of activations."""
    host: Ops = load_backend("cpu", planes=ops.planes)
    return host


def _load_text(gguf: GGUFFile, chosen: ChosenTemplate | None) -> tuple[Tokenizer, ChatTemplate]:
    """A chosen template stands in the place of the file's for the tokenizer too, which knows turn markers by it."""
    metadata = gguf.metadata if chosen is None else {**gguf.metadata, TEMPLATE_KEY: chosen.source}
    try:
        tokenizer = load_tokenizer(metadata)
        return tokenizer, ChatTemplate.from_metadata(metadata, tokenizer, chosen)
    except ModelFileError as error:  # the text side knows keys, not files; its messages begin with the key
        raise ModelFileError(f"{gguf.path}: {_placed(gguf, str(error))}") from error


def _placed(gguf: GGUFFile, message: str) -> str:
    """The message with the byte offset of the key it begins with, where the file has the key."""
    key = _KEY.match(message)
    position = gguf.metadata.position_of.get(key[0]) if key else None
    return message if position is None else f"at byte {position}: {message}"


def _notes(
    config: ModelConfig, plan: LoadPlan, overrides: dict[int, QuantType], kt_trellis: Trellis
) -> tuple[str, ...]:
    notes = []
    if overrides:
        names = ", ".join(sorted(t.name.removesuffix("_V1") for t in overrides.values()))
        how = "found in the file" if kt_trellis == "auto" else "asked for"
        notes.append(f"{names} tensors are read with the 3INST trellis of May 2025 ({how}; see --kt-trellis)")
    notes += _skipped_notes(plan.skipped)
    if config.n_ctx_max < config.n_ctx_train:
        notes.append(
            f"attention reaches back {config.n_ctx_max} tokens of the {config.n_ctx_train} trained "
            f"({config.context_limit}); requests are held to {config.n_ctx_max}, where that is the same as full "
            "attention"
        )
    return tuple(notes)


def _skipped_notes(skipped: dict[str, str]) -> list[str]:
    """One for each kind of tensors that are left out."""
    names: dict[str, list[str]] = {}
    for name, what in skipped.items():
        names.setdefault(what, []).append(name)
    return [
        f"tensor {of_kind[0]} is not loaded: it is {what}"
        if len(of_kind) == 1
        else f"{len(of_kind)} tensors such as {of_kind[0]} are not loaded: {what}"
        for what, of_kind in names.items()
    ]


def synthetic_model(
    shape_name: str, type_name: str, ops: Ops, progress: Progress | None = None
) -> LoadedModel:
    """Random weights in memory: one of synthetic.py's shapes, one type for all matrices but the vocabulary's.

    Raises ValueError for a name this build does not have.
    """
    shape = find_shape(shape_name, type_name)
    weights = RandomWeights(ops, shape, type_name, progress)
    model = build_model(shape.config, weights)
    return LoadedModel(
        path=None,
        name=f"{shape_name.replace(':', '-')}-{type_name}",
        config=shape.config,
        model=model,
        tokenizer=None,
        chat_template=None,
        ops=ops,
        weight_bytes=weights.bytes_held,
        file_bytes=weights.file_bytes,
    )
