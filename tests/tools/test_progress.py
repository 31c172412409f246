"""The bar of a long load: on a terminal that waits, and nowhere else."""

import pytest

from tools import progress


def test_a_terminal_that_waits_sees_what_is_being_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    with progress.progress_bar("loading a.gguf") as report:
        report(1, 4)
        report(3, 4)
    shown = capsys.readouterr().err
    assert "loading a.gguf" in shown
    assert "75%" in shown


@pytest.mark.parametrize(("terminal", "quiet_seconds"), [("", -1.0), ("1", 60.0)])
def test_a_pipe_or_a_short_wait_sees_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: str,
    quiet_seconds: float,
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", terminal)
    monkeypatch.setattr(progress, "QUIET_SECONDS", quiet_seconds)
    with progress.progress_bar("loading a.gguf") as report:
        report(1, 4)
        report(4, 4)
    assert capsys.readouterr().err == ""
