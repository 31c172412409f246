"""Published models by the names, types and shapes of their tensors and by their keys: tests/data/published_models.

Each list says where its facts come from. Layers of one shape stand in one line, as "blk.{0-2,4}.attn_q.weight".
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.quantization.gguf_writer import header, key, pad, tensor_entry
from kernels.quant_tensor import FILE_TYPES

FOLDER = Path(__file__).parents[1] / "data" / "published_models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
ALIGNMENT = 32


class ListedTensor(NamedTuple):
    """shape in the file's order (row length first)."""

    name: str
    shape: tuple[int, ...]
    type_name: str

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        return FILE_TYPES[self.type_name].matrix_bytes(self.n_rows, self.shape[0])


@dataclass(frozen=True)
class PublishedModel:
    """n_tensors and tensor_bytes: as the source counts them; bytes None where it does not.

    counts_row_scales: older lists leave out the 4 bytes that begin each row of IQ4_KT.
    kt_recipes: how many recipes with KT types GGUF-Tool-Suite has of it at 384c1f8, and what sizes their names state.
    """

    name: str
    sources: Mapping[str, str]
    keys: Mapping[str, Any]
    tensors: tuple[ListedTensor, ...]
    n_tensors: int
    tensor_bytes: int | None
    counts_row_scales: bool
    kt_recipes: Mapping[str, int] | None
    pre_tokenizer: str
    n_tokens: int

    @property
    def architecture(self) -> str:
        return str(self.keys["general.architecture"])

    def key(self, name: str, default: Any = None) -> Any:
        """The key of that name after the architecture's."""
        return self.keys.get(f"{self.architecture}.{name}", default)

    @property
    def n_layer(self) -> int:
        """That a forward pass computes."""
        n: int = self.key("block_count") - self.key("nextn_predict_layers", 0)
        return n


def read_published(name: str) -> PublishedModel:
    listed = json.loads((FOLDER / f"{name}.json").read_text())
    tensors = tuple(tensor for line in listed.pop("tensors") for tensor in _expanded(*line))
    return PublishedModel(name=name, tensors=tensors, **listed)


def _expanded(pattern: str, shape: list[int], type_name: str) -> Iterator[ListedTensor]:
    layers = re.search(r"\{([\d,-]+)\}", pattern)
    for layer in _numbers(layers[1]) if layers else ("",):
        name = pattern.replace(layers[0], str(layer)) if layers else pattern
        yield ListedTensor(name, tuple(shape), type_name)


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def write_hollow(model: PublishedModel, path: Path) -> Path:
    """A GGUF file with that index, as long as the real one, whose tensors are a hole: zeros that take no disk."""
    index = header(len(model.tensors), len(model.keys))
    index += b"".join(key(name, value) for name, value in model.keys.items())
    offset = 0
    for tensor in model.tensors:
        ggml_id = FILE_TYPES[tensor.type_name].ggml_id
        assert ggml_id is not None  # as of all FILE_TYPES
        index += tensor_entry(tensor.name, tensor.shape, ggml_id, offset)
        offset += tensor.nbytes + -tensor.nbytes % ALIGNMENT
    with path.open("wb") as file:
        file.write(pad(index, ALIGNMENT))
        file.truncate(file.tell() + offset)
    return path
