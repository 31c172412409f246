"""`--activations 2` as a server's operator and its clients meet it."""

from pathlib import Path

import httpx
import pytest

from support.server_process import running_server

QUESTION = {"prompt": "the inn", "max_tokens": 3, "temperature": 0}


def told_and_fingerprint(model: Path, *flags: str) -> tuple[str, str]:
    """The line about the backend, and the fingerprint of an answer."""
    with running_server(model, *flags) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=QUESTION, timeout=60).json()
        (line,) = [line for line in server.lines if line.startswith("weights ")]
        return line, answer["system_fingerprint"]


@pytest.mark.slow
def test_planes_come_from_the_flag_or_the_environment_and_are_told(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other planes may mean other tokens, so they are another configuration to a client that looks."""
    one = told_and_fingerprint(tiny_model)
    two = told_and_fingerprint(tiny_model, "--activations", "2")
    monkeypatch.setenv("ESPALIER_ACTIVATIONS", "2")
    assert told_and_fingerprint(tiny_model) == two
    assert told_and_fingerprint(tiny_model, "--activations", "1") == one
    assert two[0].endswith("2 planes of activations")
    assert "planes" not in one[0]
    assert two[1] != one[1]
