"""A model split over several files is the model it was split from; parts that do not fit are refused in one line."""

import os
import resource
import shutil

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.errors import ModelFileError
from engine.loading import load_model
from engine.loading.gguf_file import GGUFFile
from support.gguf_writer import UINT64, Tensor, Typed, contents, part_path, write_gguf, write_split
from support.tiny_models import write_tiny_llama

TENSORS = [Tensor(name, "F32", (8,), np.full(8, i, "<f4").tobytes()) for i, name in enumerate("abcde")]
KEYS = {"general.architecture": "llama", "general.name": "whole"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("whole") / "tiny.gguf")


@pytest.mark.parametrize("cuts", [[2], [0, 2, 2], [1, 2, 3, 4, 5]])
def test_the_parts_together_hold_every_tensor(tmp_path, cuts):
    with GGUFFile.open(write_split(tmp_path, KEYS, TENSORS, cuts)) as gguf:
        assert list(gguf.tensors) == list("abcde")
        assert gguf.metadata["general.name"] == "whole"
        assert gguf.name == "split"
        for tensor in TENSORS:
            assert gguf.tensor_bytes(tensor.name).tobytes() == tensor.data
        gguf.check_unchanged()


def answer(path, ops) -> list[int]:
    engine = Engine(load_model(path, ops), EngineConfig(ctx_size=64, max_batch=1))
    engine.add("r", [1, 300, 301], SamplingParams(max_tokens=8, temperature=0))
    token_ids: list[int] = []
    while engine.has_work:
        token_ids += [i for event in engine.step() for i in event.token_ids]
    return token_ids


def test_a_split_model_answers_as_the_whole_one(tmp_path, whole, cpu_ops):
    metadata, tensors = contents(whole)
    split = write_split(tmp_path, metadata, tensors, [0, 7, 8], {3: {"general.alignment": 4096}})
    assert answer(split, cpu_ops) == answer(whole, cpu_ops)


def test_tensors_may_lie_in_any_order_far_apart(tmp_path, whole, cpu_ops):
    metadata, tensors = contents(whole)
    shuffled = [tensors[i] for i in np.random.default_rng(1).permutation(len(tensors))]
    keys = metadata | {"general.alignment": 1 << 20}
    path = write_gguf(tmp_path / "spread.gguf", keys, shuffled, alignment=1 << 20)
    assert path.stat().st_size > len(tensors) << 20
    assert answer(path, cpu_ops) == answer(whole, cpu_ops)


def refusal(path) -> str:
    with pytest.raises(ModelFileError) as caught:
        GGUFFile.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", [2, 3])
def test_a_missing_part_is_named(tmp_path, number):
    first = write_split(tmp_path, KEYS, TENSORS, [2, 4])
    part_path(tmp_path, number, 3).unlink()
    message = refusal(first)
    assert message.startswith(f"{part_path(tmp_path, number, 3)} is missing of the 3 parts of {first.name}")


def test_several_missing_parts_are_counted(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [1, 2, 3])
    for number in (2, 4):
        part_path(tmp_path, number, 4).unlink()
    assert refusal(first).startswith(f"{part_path(tmp_path, 2, 4)} and 1 more are missing of the 4 parts")


def test_a_part_that_leads_nowhere_is_named(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2, 4])
    two = part_path(tmp_path, 2, 3)
    two.unlink()
    two.symlink_to(tmp_path / "moved away")
    assert refusal(first).startswith(f"{two}: cannot be read: No such file")


def test_the_largest_count_without_its_parts_is_one_line(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2], {1: {"split.count": 65535}})
    first = first.rename(tmp_path / "split-00001-of-65535.gguf")
    assert "00002-of-65535.gguf and 65533 more are missing of the 65535 parts" in refusal(first)


@pytest.fixture
def few_descriptors():
    """Four files more than are open now may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_parts_than_files_may_be_open_load(tmp_path, whole, cpu_ops, few_descriptors):
    metadata, tensors = contents(whole)
    one_tensor_a_part = [0, *range(1, len(tensors))]  # and none in the first, as the largest publisher has it
    first = write_split(tmp_path, metadata, tensors, one_tensor_a_part)
    n_open = len(os.listdir("/proc/self/fd"))
    with GGUFFile.open(first) as gguf:
        assert len(gguf.files) == len(tensors) + 1 > 8
        assert len(os.listdir("/proc/self/fd")) == n_open  # not even the first stays open
    assert answer(first, cpu_ops) == answer(whole, cpu_ops)


def test_nearly_two_thousand_parts_are_one_model(tmp_path):
    names = [f"t{i}" for i in range(1809)]
    tensors = [Tensor(name, "F32", (8,), np.full(8, 1, "<f4").tobytes()) for name in names]
    with GGUFFile.open(write_split(tmp_path, KEYS, tensors, range(len(tensors)))) as gguf:
        assert list(gguf.tensors) == names
        assert len(gguf.files) == 1810
        assert gguf.tensor_bytes("t1808").tobytes() == tensors[-1].data


@pytest.mark.parametrize("harm", ["written to", "replaced", "removed"])
def test_a_part_that_changes_before_its_tensors_are_read_is_noticed(tmp_path, harm):
    second = part_path(tmp_path, 2, 2)
    with GGUFFile.open(write_split(tmp_path, KEYS, TENSORS, [2])) as gguf:
        if harm == "written to":
            with second.open("r+b") as file:
                file.truncate(second.stat().st_size + 1)
        elif harm == "replaced":
            aside = second.rename(tmp_path / "aside")
            shutil.copy2(aside, second)  # the same bytes and times, and yet another file
        else:
            second.unlink()
        gguf.tensor_bytes("a")
        for read in (lambda: gguf.tensor_bytes("e"), gguf.check_unchanged):
            with pytest.raises(
                ModelFileError, match=r"00002-of-00002\.gguf: (was written to|cannot be read)"
            ):
                read()


def test_another_part_than_the_first_says_which_to_give(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2, 4])
    message = refusal(part_path(tmp_path, 2, 3))
    assert "is part 2 of 3" in message
    assert first.name in message


def test_a_renamed_first_part_says_what_the_name_must_be(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2])
    assert "model-00001-of-00002.gguf" in refusal(first.rename(tmp_path / "model.gguf"))


def test_parts_in_each_others_place_are_refused(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2, 4])
    two, three = part_path(tmp_path, 2, 3), part_path(tmp_path, 3, 3)
    two.rename(tmp_path / "aside")
    three.rename(two)
    (tmp_path / "aside").rename(three)
    message = refusal(first)
    assert message.startswith(str(two))
    assert "'split.no'" in message
    assert "1 is needed in part 2 of 3" in message


# name -> (keys of single parts, what the message must say)
LYING = {
    "count of another model": ({2: {"split.count": 3}}, "'split.count' .* 2 is needed in part 2 of 2"),
    "count missing": ({2: {"split.count": None}}, "'split.count' is missing"),
    "count text": ({1: {"split.count": "two"}}, "'split.count' at byte .* an integer"),
    "count huge": ({1: {"split.count": 2**31}}, "'split.count' at byte .* an integer from 0 to 65535"),
    "count as large as an integer gets": ({1: {"split.count": Typed(UINT64, 2**63)}}, "from 0 to 65535"),
    "count negative": ({1: {"split.count": -2}}, "'split.count' at byte"),
    "no beyond count": ({1: {"split.no": 7}}, "'split.no' at byte .* from 0 to 1"),
    "no missing": ({1: {"split.no": None}}, "'split.no' is missing"),
    "no missing in part 2": ({2: {"split.no": None}}, "'split.no' is missing"),
    "tensor count wrong": (
        {part: {"split.tensors.count": 6} for part in (1, 2)},
        "00001-of-00002.gguf: key 'split.tensors.count' .* the 2 parts hold 5 tensors",
    ),
    "tensor count wrong in part 1": ({1: {"split.tensors.count": 6}}, "'split.tensors.count' .* tells 6"),
    "tensor count wrong in part 2": ({2: {"split.tensors.count": 4}}, "'split.tensors.count' .* tells 5"),
    "tensor count missing": ({1: {"split.tensors.count": None}}, "'split.tensors.count' is missing"),
    "another model's name": (
        {2: {"general.name": "other"}},
        "'general.name' at byte .* not parts of one model",
    ),
    "another type under one key": ({2: {"general.name": 1}}, "not parts of one model"),
    "a part of a whole file": ({1: {"split.count": 1, "split.no": 1}}, "'split.no' at byte"),
}


@pytest.mark.parametrize("name", LYING)
def test_split_keys_that_lie_are_refused(tmp_path, name):
    part_keys, expected = LYING[name]
    first = write_split(tmp_path, KEYS, TENSORS, [2], part_keys)
    with pytest.raises(ModelFileError, match=expected):
        GGUFFile.open(first)


def test_a_tensor_in_two_parts_is_refused(tmp_path):
    first = write_split(tmp_path, KEYS, [*TENSORS, TENSORS[1]], [3])
    message = refusal(first)
    assert message.startswith(str(part_path(tmp_path, 2, 2)))
    assert "'b' at byte" in message
    assert first.name in message


def test_a_part_that_is_cut_short_is_named(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [2])
    second = part_path(tmp_path, 2, 2)
    second.write_bytes(second.read_bytes()[:-9])
    message = refusal(first)
    assert message.startswith(str(second))
    assert "not copied whole" in message


def test_no_file_stays_open_after_a_refusal(tmp_path):
    first = write_split(tmp_path, KEYS, TENSORS, [1, 2, 3], {4: {"split.no": 9}})
    for _ in range(2000):  # more than the files a process may open
        with pytest.raises(ModelFileError, match="split"):
            GGUFFile.open(first)
