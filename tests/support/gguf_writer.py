"""GGUF files for tests: the writer with its pieces, what a file holds, and models cut into several files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.loading.gguf_file import GGUFFile
from engine.quantization.gguf_writer import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT8,
    INT32,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Tensor,
    Typed,
    gguf_bytes,
    header,
    key,
    pad,
    string,
    tensor_entry,
    value,
    write_gguf,
)

__all__ = [
    "ARRAY",
    "BOOL",
    "FLOAT32",
    "FLOAT64",
    "INT8",
    "INT32",
    "STRING",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "Tensor",
    "Typed",
    "contents",
    "gguf_bytes",
    "header",
    "key",
    "pad",
    "part_path",
    "string",
    "tensor_entry",
    "value",
    "write_gguf",
    "write_split",
]


def contents(path: Path) -> tuple[dict[str, Any], list[Tensor]]:
    """What a right file holds, in the form in which it can be written again."""
    with GGUFFile.open(path) as gguf:
        tensors = [
            Tensor(t.name, t.type.name, t.shape, gguf.tensor_bytes(t.name).tobytes())
            for t in gguf.tensors.values()
        ]
        return dict(gguf.metadata), tensors


def part_path(folder: Path, number: int, count: int, stem: str = "split") -> Path:
    """Where part `number` (from 1) of a split model lies."""
    return folder / f"{stem}-{number:05d}-of-{count:05d}.gguf"


def write_split(
    folder: Path,
    metadata: Mapping[str, Any],
    tensors: Sequence[Tensor],
    cuts: Sequence[int],
    part_keys: Mapping[int, Mapping[str, Any]] | None = None,
) -> Path:
    """A model over several files; the path of the first. Part i ends before tensor cuts[i]; the rest is the last.

    part_keys: part number from 1 -> keys that this part gets besides, or in place of, its own; None removes one.
    """
    count, edges = len(cuts) + 1, [0, *cuts, len(tensors)]
    for number in range(1, count + 1):
        keys: dict[str, Any] = dict(metadata) if number == 1 else {}
        keys |= {
            "split.no": Typed(UINT16, number - 1),
            "split.count": Typed(UINT16, count),
            "split.tensors.count": Typed(INT32, len(tensors)),
        }
        keys |= (part_keys or {}).get(number, {})
        own = tensors[edges[number - 1] : edges[number]]
        alignment = int(keys.get("general.alignment", 32))
        kept = {name: item for name, item in keys.items() if item is not None}
        write_gguf(part_path(folder, number, count), kept, own, alignment=alignment)
    return part_path(folder, 1, count)
