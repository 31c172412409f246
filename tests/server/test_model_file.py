"""What happens to a model's file after the start is no business of the server; what was wrong before is one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.gguf_writer import contents, part_path, write_split
from support.server_process import launch, running_server

QUESTION = {"prompt": "the inn", "max_tokens": 150, "ignore_eos": True, "temperature": 0}


def answer(url: str) -> str:
    response = httpx.post(f"{url}/v1/completions", json=QUESTION, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(0)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("harm", [truncate, overwrite])
def test_a_file_harmed_under_a_running_server_changes_no_answer(
    tmp_path: Path, tiny_model: Path, harm: Any
) -> None:
    path = Path(shutil.copy(tiny_model, tmp_path / "model.gguf"))
    with running_server(path) as server:
        expected = answer(server.url)
        pieces, harmed = [], False
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=QUESTION | {"stream": True}, timeout=60
        ) as stream:
            for line in stream.iter_lines():
                if len(pieces) == 3 and not harmed:
                    harm(path)  # in the middle of a generation
                    harmed = True
                if line.startswith("data: {"):
                    pieces.append(json.loads(line[6:])["choices"][0]["text"])
        assert len(pieces) > 3
        assert "".join(pieces) == expected
        assert answer(server.url) == expected
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert server.process.poll() is None


def test_a_split_model_is_served_under_the_name_without_its_part(tmp_path: Path, tiny_model: Path) -> None:
    first = write_split(tmp_path, *contents(tiny_model), [0, 5])
    with running_server(first) as server:
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "split"
        assert answer(server.url)


@pytest.mark.parametrize("harm", ["missing part", "second part", "cut"])
def test_a_file_that_is_wrong_at_the_start_is_one_line_and_status_2(
    tmp_path: Path, tiny_model: Path, harm: str
) -> None:
    path = write_split(tmp_path, *contents(tiny_model), [5])
    second = part_path(tmp_path, 2, 2)
    if harm == "missing part":
        second.unlink()
    elif harm == "cut":
        second.write_bytes(second.read_bytes()[:-1000])
    server = launch(second if harm == "second part" else path)
    assert server.wait() == 2
    (line,) = server.lines
    assert line.startswith("espalier: ")
    assert second.name in line
