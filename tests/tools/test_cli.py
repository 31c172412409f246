"""The command line as a person meets it: one line for a mistake, exit status 2, help that explains itself."""

import contextlib
import io
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import pytest

from engine.errors import EspalierError
from server.settings import parse_size
from support.gguf_writer import contents, part_path, write_split
from support.tiny_models import write_tiny_llama
from tools.cli import main
from tools.refusals import LATER_COMMANDS, LATER_FLAGS
from tools.serve import api_keys


def espalier(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In this process, as a new one takes a third of a second to import everything; test_process_end.py has some."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    status: str | int | None = 0
    try:
        with (
            mock.patch.object(sys, "argv", ["espalier", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        status = end.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(arguments, int(status or 0), out.getvalue(), err.getvalue())


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    # Where CuPy is installed and no GPU can be used, --device auto says so first.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("espalier: on the CPU: ")]
    assert len(lines) == 1
    assert lines[0].startswith("espalier: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("command", [(), ("serve",), ("chat",), ("perplexity",), ("bench",), ("inspect",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = espalier(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "model.gguf"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    elif kind == "truncated":
        whole = write_tiny_llama(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "directory":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello, I am no model\n" * 9}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text", "zip", "truncated"])
@pytest.mark.parametrize("command", ["serve", "inspect"])
def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, command: str, kind: str) -> None:
    options = ("--port", "0") if command == "serve" else ()
    assert_refused(espalier(command, bad_file(tmp_path, kind), *options), "model.gguf")


@pytest.mark.parametrize("command", LATER_COMMANDS)
def test_commands_of_later_versions_are_refused_in_words(command: str) -> None:
    assert_refused(espalier(command, "x"), command, "not in this build")


@pytest.mark.parametrize("flag", LATER_FLAGS)
def test_flags_of_later_versions_are_refused_in_words(flag: str) -> None:
    assert_refused(espalier("serve", "m.gguf", flag, "x"), flag, "not in this build")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("serve", "m.gguf", "--port", "0", "--device", "cuda"), "cuda"),
        (("serve", "m.gguf", "--port", "0", "--device", "tpu"), "tpu"),
        (("serve", "m.gguf", "--kv-type", "q4_0"), "q8_0"),
        (("serve", "m.gguf", "--port", "0", "--device", "cpu", "--attention", "tensor"), "--device cuda"),
        (("bench", "m.gguf", "--device", "cpu", "--attention", "tensor"), "--device cuda"),
        (("chat", "m.gguf", "--device", "cpu", "--attention", "flash"), "exact, tensor"),
        (("serve", "m.gguf", "--port", "0", "--activations", "3"), "--activations is 3; it is 1 or 2"),
        (("perplexity", "m.gguf", __file__, "--activations", "0"), "--activations is 0"),
        (("bench", "m.gguf", "--activations", "3"), "--activations is 3"),
        (("chat", "m.gguf", "--activations", "3"), "--activations is 3"),
        (("chat", "m.gguf", "--chat-template", "chatlm"), "neither a file nor one of alpaca, chatml"),
        (("serve", "m.gguf", "--kv-memory", "much"), "much"),
        (("serve", "m.gguf", "--port", "70000"), "70000"),
        (("serve", "m.gguf", "--port", "0", "--threads", "0"), "threads"),
        (("bench",), "--synthetic"),
        (("bench", "--synthetic", "llama-9b", "IQ2_KT"), "llama-0.85b"),
        (("bench", "--synthetic", "llama-0.85b", "IQ9_KT"), "IQ2_KT"),
    ],
)
def test_choices_that_cannot_be_are_one_line(arguments: tuple[str, ...], word: str) -> None:
    assert_refused(espalier(*arguments), word)


def test_an_unknown_option_is_status_2() -> None:
    done = espalier("serve", "m.gguf", "--wings", "2")
    assert done.returncode == 2
    assert "--wings" in done.stderr


def test_an_occupied_port_is_told_before_the_model_is_read() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(espalier("serve", "no-such.gguf", "--port", port), str(port), "choose another")


def test_too_little_kv_memory_says_what_would_work(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf")
    assert_refused(espalier("serve", path, "--port", "0", "--kv-memory", "10K"), "--kv-memory")


def test_a_context_longer_than_the_trained_one_is_refused(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_ctx=128)
    assert_refused(espalier("serve", path, "--port", "0", "--ctx-size", "129"), "128")


def test_inspect_reads_all_parts_of_a_split_model(tmp_path: Path) -> None:
    metadata, tensors = contents(write_tiny_llama(tmp_path / "m.gguf"))
    done = espalier("inspect", write_split(tmp_path, metadata, tensors, [0, 9]))
    assert done.returncode == 0, done.stderr
    assert "files: 3" in done.stdout
    assert "blk.1.ffn_down.weight" in done.stdout
    assert_refused(espalier("inspect", part_path(tmp_path, 2, 3)), "part 2 of 3", "split-00001-of-00003.gguf")


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1000", 1000),
        ("2K", 2048),
        ("1.5g", 3 << 29),
        ("512MiB", 512 << 20),
        ("3 GB", 3 << 30),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "nan", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(EspalierError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"one\ntwo\n", ("one", "two")),
        (b"\xef\xbb\xbfone\r\n\r\n# a remark\r\n  two  \r\n", ("one", "two")),
        (b"#only\n  # this\nkey#1", ("key#1",)),
    ],
)
def test_a_key_file_is_keys_without_remarks(tmp_path: Path, data: bytes, keys: tuple[str, ...]) -> None:
    path = tmp_path / "keys"
    path.write_bytes(data)
    assert api_keys(None, path) == keys
    assert api_keys("flag", path) == ("flag", *keys)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no key"),
        (b"\xef\xbb\xbf# nothing\r\n", "holds no key"),
        ("key".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "keys"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(EspalierError, match=words):
        api_keys(None, path)
