"""`make gpu-check` and `make gpu-pack` say in one line what is missing. The rest needs a card or a network."""

import sys
from pathlib import Path

import pytest

from tools import gpu_check, gpu_pack


def refusal(capsys: pytest.CaptureFixture[str], tool: object, *arguments: str) -> str:
    """Its one line on stderr, with exit status 2."""
    assert tool.main(list(arguments)) == 2  # type: ignore[attr-defined]
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--steps", "kernels,sing"],
            "no step sing; there are extension, kernels, sanitizer, tokens, benches",
        ),
        (["--steps", "sanitizer"], "sanitizer: only a card can show that, not --emulate"),
        (["--seed", "-1"], "--seed is -1; it is at least 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_built(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    line = refusal(capsys, gpu_check, "--emulate", "--out", str(tmp_path / "out"), *arguments)
    assert line == f"gpu-check: {words}"
    assert not (tmp_path / "out").exists()


def test_a_machine_without_a_card_is_told_what_runs_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: name)
    monkeypatch.setattr(gpu_check, "CARD", "raise RuntimeError('no driver')")
    line = refusal(capsys, gpu_check)
    assert line == "gpu-check: no usable GPU (RuntimeError: no driver); --emulate runs what needs none"


def test_missing_packages_and_wheels_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None if name == "pytest" else name)
    assert refusal(capsys, gpu_check, "--emulate").startswith(f"gpu-check: {sys.executable} has no pytest;")
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None if name == "nanobind" else name)
    line = refusal(capsys, gpu_check, "--emulate", "--carry", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (
        line == f"gpu-check: no wheels in {tmp_path / 'wheels'} and no nanobind here; make gpu-pack fills it"
    )


def test_what_follows_a_failed_step_is_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A time of wrong results says nothing."""
    ran = []

    def step(name: str, good: bool):
        return lambda place: ran.append(name) is None and good

    steps = {"extension": True, "kernels": False, "tokens": True}
    monkeypatch.setattr(gpu_check, "STEPS", {name: step(name, good) for name, good in steps.items()})
    monkeypatch.setattr(gpu_check, "install_carried", lambda carry, out: [])
    assert gpu_check.main(["--emulate", "--seed", "5", "--out", str(tmp_path)]) == 1
    assert ran == ["extension", "kernels"]
    log = (tmp_path / "log.txt").read_text()
    assert log.splitlines()[0].startswith("no card, emulated, seed 5, ")
    assert [line.partition(",")[0] for line in log.splitlines()[1:]] == [
        "extension: ok",
        "kernels: FAILED",
        "tokens: not run",
    ]


def test_the_tests_it_runs_are_there() -> None:
    for path in (*gpu_check.KERNEL_TESTS, *gpu_check.TOKEN_TESTS, *gpu_check.BENCH_TESTS):
        assert (gpu_check.ROOT / path).is_file(), path


def test_packing_refuses_a_folder_of_something_else_and_data_without_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared, into = tmp_path / "shared", tmp_path / "into"
    assert "has no stories-wide256-IQ1_KT-pure.gguf" in refusal(capsys, gpu_pack, "--shared", str(shared))
    (shared / "models").mkdir(parents=True)
    for name in gpu_pack.MODELS:
        (shared / "models" / name).touch()
    into.mkdir()
    (into / "precious").touch()
    line = refusal(capsys, gpu_pack, "--shared", str(shared), "--into", str(into))
    assert line == f"gpu-pack: {into} holds something else; --into names another folder"
    assert (into / "precious").exists()
