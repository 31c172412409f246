"""Models split over several files, NAME-00001-of-0000N.gguf and so on: from the first one to all of them.

The first part holds the metadata. Every part says which it is (split.no, from 0), of how many (split.count), and how
many tensors all of them hold (split.tensors.count); each of these is checked, and no tensor may be in two parts.
"""

import re
from pathlib import Path

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_index import MAX_TENSORS, Index, TensorInfo
from engine.loading.metadata_reader import MetadataReader

MAX_PARTS = 512  # each is an open file while the model is loaded; the largest real models have about 200
_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def stem_of(path: Path) -> str:
    """A model's name by its file: the stem, without the part number of a split model."""
    match = _PART_NAME.fullmatch(path.name)
    return match["stem"] if match else path.stem


def other_parts(first: Index) -> list[Path]:
    """Where parts 2, 3, ... of the model must be; empty for a model of one file. Raises ModelFileError."""
    keys = _split_keys(first)
    count = keys.integer("count", 0, MAX_PARTS, default=1)
    number = keys.integer("no", 0, max(count - 1, 0), default=0 if count < 2 else None)
    if count < 2:
        return []
    path = first.file.path
    match = _PART_NAME.fullmatch(path.name)
    stem = match["stem"] if match else path.stem
    if number != 0:
        raise ModelFileError(
            f"{path}: is part {number + 1} of {count} of a split model; "
            f"give the first part, {_part_name(stem, 1, count)}"
        )
    if match is None or (int(match["number"]), int(match["count"])) != (1, count):
        raise ModelFileError(
            f"{path}: is part 1 of {count} of a split model by its key 'split.count', and the other parts are "
            f"found by its name, which must be like {_part_name(stem, 1, count)}"
        )
    return [path.with_name(_part_name(stem, i, count)) for i in range(2, count + 1)]


def merge_tensors(parts: list[Index]) -> dict[str, TensorInfo]:
    """The tensors of all parts by name, in order. Raises ModelFileError where the parts are not one model."""
    for number, part in enumerate(parts[1:], 1):
        _check_part(part, number, parts[0], len(parts))
    tensors: dict[str, TensorInfo] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise ModelFileError(
                    f"{part.file.path}: tensor {shown(name)} at byte {tensor.offset}: "
                    f"is in {tensors[name].file.path.name} too; each name is allowed once in a model"
                )
            tensors[name] = tensor
    if len(parts) > 1:
        _check_count(parts, len(tensors))
    return tensors


def _check_part(part: Index, number: int, first: Index, count: int) -> None:
    """number: from 0, as split.no has it."""
    keys = _split_keys(part)
    for name, expected in (("count", count), ("no", number)):
        if keys.integer(name, 0, MAX_PARTS) != expected:
            raise keys.error(
                name,
                f"{expected} is needed in part {number + 1} of {count}: the file was renamed or is of another model",
            )
    for key in part.metadata.keys() & first.metadata.keys():
        if not key.startswith("split.") and key != "general.alignment":
            _require_same(part, first, key)


def _require_same(part: Index, first: Index, key: str) -> None:
    here, there = part.metadata[key], first.metadata[key]
    if type(here) is not type(there) or not np.array_equal(here, there):
        raise ModelFileError(
            f"{part.file.path}: key {shown(key)} at byte {part.metadata.position_of[key]}: differs from "
            f"that of {first.file.path.name}; the two are not parts of one model"
        )


def _check_count(parts: list[Index], n_tensors: int) -> None:
    """Every part that tells the number of tensors must tell the right one; the first must tell it."""
    for part in parts:
        keys = _split_keys(part)
        told = keys.integer("tensors.count", 0, MAX_TENSORS, default=None if part is parts[0] else n_tensors)
        if told != n_tensors:
            raise keys.error(
                "tensors.count", f"the {len(parts)} parts hold {n_tensors} tensors; they are not of one model"
            )


def _split_keys(part: Index) -> MetadataReader:
    return MetadataReader(part.file.path, part.metadata, "split.")


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number:05d}-of-{count:05d}.gguf"
