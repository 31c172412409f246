"""Models split over several files, NAME-00001-of-0000N.gguf and so on: from the first one to all of them.

The first part holds the metadata, and perhaps no tensor. Every part says which it is (split.no, from 0), of how many
(split.count), and how many tensors all of them hold (split.tensors.count); each of these is checked, and no tensor
may be in two parts. Parts are joined one by one and nothing but their tensors' places is kept, so time and memory
grow with what is on the disk and not with what the first part declares.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_index import MAX_TENSORS, Index, TensorInfo
from engine.metadata_reader import MetadataReader

MAX_PARTS = 65535  # split.count is a uint16
_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def stem_of(path: Path) -> str:
    """A model's name by its file: the stem, without the part number of a split model."""
    match = _PART_NAME.fullmatch(path.name)
    return match["stem"] if match else path.stem


def other_parts(first: Index) -> Iterator[Path]:
    """Where parts 2, 3, ... of the model are; none for a model of one file.

    Raises ModelFileError where `first` is not the first part or another part is missing.
    """
    count = _part_count(first)
    if count < 2:
        return iter(())
    path, stem = first.file.path, _common_stem(first, count)
    _require_all(path, stem, count)
    return (path.with_name(_part_name(stem, number, count)) for number in range(2, count + 1))


class PartsJoined:
    """A model as far as its parts are joined: `first` with the metadata, every part's file, and all their tensors."""

    def __init__(self, first: Index) -> None:
        self.first = first
        self.files = [first.file]
        self.tensors: dict[str, TensorInfo] = dict(first.tensors)
        self._count = _part_count(first)
        self._n_tensors = (
            len(first.tensors)
            if self._count < 2
            else _split_keys(first).integer("tensors.count", 0, MAX_TENSORS)
        )

    def add(self, part: Index) -> None:
        """Join the next part. Raises ModelFileError where it is not the next part of this model."""
        self._check_split_keys(part)
        for key in part.metadata.keys() & self.first.metadata.keys():
            if not key.startswith("split.") and key != "general.alignment":
                _require_same(part, self.first, key)
        for name, tensor in part.tensors.items():
            if name in self.tensors:
                raise ModelFileError(
                    f"{part.file.path}: tensor {shown(name)} at byte {tensor.offset}: "
                    f"is in {self.tensors[name].file.path.name} too; each name is allowed once in a model"
                )
            self.tensors[name] = tensor
        self.files.append(part.file)

    def check_complete(self) -> None:
        """Raises ModelFileError where all parts together hold another number of tensors than the first one tells."""
        if len(self.tensors) != self._n_tensors:
            raise _split_keys(self.first).error(
                "tensors.count",
                f"the {len(self.files)} parts hold {len(self.tensors)} tensors; they are not of one model",
            )

    def _check_split_keys(self, part: Index) -> None:
        keys, number = _split_keys(part), len(self.files)
        for name, expected in (("count", self._count), ("no", number)):
            if keys.integer(name, 0, MAX_PARTS) != expected:
                raise keys.error(
                    name,
                    f"{expected} is needed in part {number + 1} of {self._count}: "
                    "the file was renamed or is of another model",
                )
        if keys.integer("tensors.count", 0, MAX_TENSORS, default=self._n_tensors) != self._n_tensors:
            raise keys.error(
                "tensors.count",
                f"{self.first.file.path.name} tells {self._n_tensors}; the two are not parts of one model",
            )


def _part_count(first: Index) -> int:
    """1 for a model of one file."""
    keys = _split_keys(first)
    count = keys.integer("count", 0, MAX_PARTS, default=1) or 1
    if count == 1:
        keys.integer("no", 0, 0, default=0)
    return count


def _common_stem(first: Index, count: int) -> str:
    """What the names of the parts begin with. Raises ModelFileError for another part than the first."""
    path = first.file.path
    number = _split_keys(first).integer("no", 0, count - 1)
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
    return stem


def _require_all(path: Path, stem: str, count: int) -> None:
    """Raises ModelFileError, naming the first part that is not beside `path`, where one is missing."""
    names = (_part_name(stem, number, count) for number in range(2, count + 1))
    missing = (name for name in names if not os.path.lexists(f"{path.parent}/{name}"))
    first = next(missing, None)
    if first is not None:
        n_more = sum(1 for _ in missing)
        others = f" and {n_more} more are" if n_more else " is"
        raise ModelFileError(
            f"{path.with_name(first)}{others} missing of the {count} parts of {path.name}; "
            "all parts must be whole and in one folder"
        )


def _require_same(part: Index, first: Index, key: str) -> None:
    here, there = part.metadata[key], first.metadata[key]
    if type(here) is not type(there) or not np.array_equal(here, there):
        raise ModelFileError(
            f"{part.file.path}: key {shown(key)} at byte {part.metadata.position_of[key]}: differs from "
            f"that of {first.file.path.name}; the two are not parts of one model"
        )


def _split_keys(part: Index) -> MetadataReader:
    return MetadataReader(part.file.path, part.metadata, "split.")


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number:05d}-of-{count:05d}.gguf"
