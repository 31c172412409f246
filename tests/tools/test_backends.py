"""The options of a device become a backend, or one line that says what is there and what would work."""

import sys
from unittest import mock

import pytest

from engine import EspalierError
from support.fake_cupy import Machine, installed
from tools.backends import backend_line, open_backend

#: What a machine lacks, and words of the line about it.
UNUSABLE = {
    "no driver": (Machine(driver_version=0), ("driver", "older")),
    "an old driver": (Machine(driver_version=11040, runtime_version=12000), ("driver", "older", "cuda12")),
    "no card": (Machine(n_devices=0), ("no usable NVIDIA GPU", "nvidia-smi")),
    "an old card": (Machine(capability=(7, 5), name="Old Card"), ("Old Card", "7.5", "8.0")),
}


@pytest.mark.parametrize("lack", UNUSABLE)
def test_a_gpu_that_cannot_be_used_is_one_line(lack: str) -> None:
    machine, words = UNUSABLE[lack]
    with installed(machine), pytest.raises(EspalierError) as refused:
        open_backend("cuda", None)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith("--device cuda: ")
    assert all(word in line for word in words)


@pytest.mark.parametrize("lack", UNUSABLE)
def test_auto_then_takes_the_cpu_and_says_why(lack: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine, words = UNUSABLE[lack]
    with installed(machine):
        assert open_backend("auto", None).name == "cpu"
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(word in told for word in words)


def test_a_cache_folder_that_cannot_be_made_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """CuPy makes one when it is imported: on a read-only root that is an OSError."""
    error = OSError(30, "Read-only file system", "/cache/cupy")
    with mock.patch("kernels.cuda.device.importlib.import_module", side_effect=error):
        with pytest.raises(EspalierError, match=r"Read-only file system.*CUPY_CACHE_DIR"):
            open_backend("cuda", None)
        assert open_backend("auto", None).name == "cpu"
    assert capsys.readouterr().err.count("CUPY_CACHE_DIR") == 1


def test_without_cupy_cuda_names_the_extras_and_auto_is_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        open_backend("cpu", 1).name == "cpu"
    )  # imported outside: patch.dict forgets what is imported within
    with mock.patch.dict(sys.modules, {"cupy": None}):
        with pytest.raises(EspalierError, match=r"espalier\[cuda13\]"):
            open_backend("cuda", None)
        assert open_backend("auto", None).name == "cpu"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_is_used_and_named(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with installed(Machine(name="Some Card")):
        ops = open_backend(device, None)
        assert backend_line(ops) == "cuda, Some Card"
    assert capsys.readouterr().err == ""


def test_threads_are_for_the_cpu() -> None:
    with installed(Machine()):
        assert open_backend("auto", 1).n_threads == 1
        for device in ("cuda", "reference"):
            with pytest.raises(EspalierError, match="--threads has no meaning"):
                open_backend(device, 1)


def test_planes_of_activations_reach_the_backend_and_its_line() -> None:
    cpu, reference = open_backend("cpu", 2, 2), open_backend("reference", None, 2)
    assert (cpu.planes, reference.planes) == (2, 2)
    assert backend_line(cpu) == f"cpu, {cpu.isa}, 2 threads, 2 planes of activations"
    assert backend_line(reference) == "reference, 2 planes of activations"
    assert "planes" not in backend_line(open_backend("cpu", 2))


@pytest.mark.parametrize("activations", [0, 3, -1])
def test_other_numbers_of_planes_are_one_line(activations: int) -> None:
    with pytest.raises(EspalierError, match=f"--activations is {activations}; it is 1 or 2"):
        open_backend("cpu", None, activations)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_takes_two_planes(device: str) -> None:
    with installed(Machine(name="Some Card")):
        assert backend_line(open_backend(device, None, 2)) == "cuda, Some Card, 2 planes of activations"


@pytest.mark.parametrize("lack", UNUSABLE)
def test_the_cpu_in_place_of_a_gpu_has_the_planes_that_were_asked_for(lack: str) -> None:
    with installed(UNUSABLE[lack][0]):
        assert open_backend("auto", None, 2).planes == 2


def test_without_a_gpu_auto_with_two_planes_needs_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.dict(sys.modules, {"cupy": None}):
        assert open_backend("auto", None, 2).planes == 2
    assert capsys.readouterr().err == ""


def test_attention_on_tensor_cores_is_asked_of_the_gpu_and_named() -> None:
    with installed(Machine(name="Some Card")):
        assert (
            backend_line(open_backend("auto", None, attention="tensor"))
            == "cuda, Some Card, attention on tensor cores"
        )


@pytest.mark.parametrize(("device", "threads"), [("cpu", None), ("reference", None), ("auto", 2), ("cpu", 1)])
def test_without_a_gpu_it_is_refused(device: str, threads: int | None) -> None:
    with installed(Machine()), pytest.raises(EspalierError, match="--attention tensor is for --device cuda"):
        open_backend(device, threads, attention="tensor")


def test_an_attention_that_there_is_not_is_refused() -> None:
    with pytest.raises(EspalierError, match="--attention is 'fast'; it is one of exact, tensor"):
        open_backend("cpu", None, attention="fast")


@pytest.mark.parametrize("machine", [None, Machine(n_devices=0)], ids=["no CuPy", "no card"])
def test_where_auto_finds_none_a_line_says_that_attention_is_exact(
    machine: Machine | None, capsys: pytest.CaptureFixture[str]
) -> None:
    open_backend("cpu", 1)  # imported outside: patch.dict forgets what is imported within
    with mock.patch.dict(sys.modules, {"cupy": None}) if machine is None else installed(machine):
        assert open_backend("auto", None, attention="tensor").name == "cpu"
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "attention is exact" in told
