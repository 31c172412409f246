"""Coverage-guided fuzzing of what reads a stranger's bytes: `python -m support.fuzz TARGET [libFuzzer's options]`.

Atheris turns each new branch that an input reaches into a reason to keep it. Only our own errors may escape, each in
one line; libFuzzer's -timeout and -rss_limit_mb end an input that hangs or grows. A finding ends the process with
the traceback and the input in base64, and the same target with that file's path as its only option runs it again.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

# Atheris does not see through the loader of an editable install. Last in turn, it gives the native module alone: the
# checkout lies on the path as well.
sys.meta_path.sort(key=lambda finder: type(finder).__name__ == "ScikitBuildRedirectingFinder")

with atheris.instrument_imports(include=["engine", "jinja2"]):
    from engine.errors import ModelFileError, RequestError
    from engine.loading.gguf_file import GGUFFile
    from engine.text.chat_template import ChatTemplate
    from engine.text.pre_tokenizers import PRE_TOKENIZERS
    from engine.text.tokenizer import Tokenizer, load_tokenizer
    from support.chat_templates import ALL, CONTROL_TEXTS
    from support.gguf_writer import BOOL, FLOAT64, UINT64, Tensor, Typed, gguf_bytes
    from support.vocabularies import CONTROL, bpe_metadata, pieces_with, spm_metadata


#: A control token that no template of a fuzzer's spells: it may come out of a conversation only as plain text.
SECRET = "<|secret-7f3a9c|>"
METADATA = spm_metadata(pieces_with(*((text, 0.0, CONTROL) for text in (*CONTROL_TEXTS, SECRET))))
TOKENIZER = load_tokenizer(METADATA)
SECRET_ID = TOKENIZER.control.ids[SECRET]
MESSAGES = [
    {"role": "system", "content": f"Be brief.{SECRET}"},
    {"role": "user", "content": SECRET[:5]},
    {"role": "assistant", "content": f"<think>{SECRET[5:]}</think>\n\n7{SECRET[:-1]}"},
    {"role": "user", "content": f"{SECRET * 3} é\U0001f980"},
]
VOCABULARIES = (METADATA, bpe_metadata())
NUMBERS = (-(2**63), -2, -1, 0, 1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_FILE = os.memfd_create("fuzzed")


def reader(data: bytes) -> None:
    """A file of these bytes: its index, and every byte of its tensors."""
    os.ftruncate(_FILE, 0)
    os.pwrite(_FILE, data, 0)
    try:
        with GGUFFile.open(f"/proc/self/fd/{_FILE}") as gguf:
            for name in gguf.tensors:
                gguf.tensor_bytes(name).sum()
    except ModelFileError as error:
        _check_line(error)


def tokenizer(data: bytes) -> None:
    """A vocabulary changed in a few places, and a text through it and back."""
    source = atheris.FuzzedDataProvider(data)
    base = source.PickValueInList(list(VOCABULARIES))
    metadata = base | {"tokenizer.ggml.pre": source.PickValueInList(list(PRE_TOKENIZERS))}
    for _ in range(source.ConsumeIntInRange(0, 4)):
        key = source.PickValueInList(
            [*metadata, "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_eos_token"]
        )
        metadata[key] = _changed(metadata.get(key), source)
    try:
        _there_and_back(load_tokenizer(metadata), source.ConsumeUnicode(200))
    except (ModelFileError, RequestError) as error:
        _check_line(error)


def _changed(old: Any, source: atheris.FuzzedDataProvider) -> Any:
    if isinstance(old, list) and source.ConsumeBool():
        new = old[: source.ConsumeIntInRange(0, len(old))] if source.ConsumeProbability() < 0.2 else list(old)
        for _ in range(source.ConsumeIntInRange(0, 5) if new else 0):
            new[source.ConsumeIntInRange(0, len(new) - 1)] = _scalar(source)
        return new
    return _scalar(source)


def _scalar(source: atheris.FuzzedDataProvider) -> Any:
    match source.ConsumeIntInRange(0, 5):
        case 0:
            return source.PickValueInList(list(NUMBERS))
        case 1:
            return source.ConsumeFloat()
        case 2:
            return source.ConsumeBytes(8).decode("utf-8", "surrogateescape")  # as the reader gives bad UTF-8
        case 3:
            return source.PickValueInList(
                [METADATA["tokenizer.ggml.tokens"][3], "<0x4G>", "<s>", "", "▁" * 5000]
            )
        case 4:
            return source.ConsumeIntInRange(0, 7)
        case _:
            return source.PickValueInList([None, True, [], [["nested"]]])


def _there_and_back(tokens: Tokenizer, text: str) -> None:
    for parse_special in (False, True):
        token_ids = tokens.encode(text, add_special=True, parse_special=parse_special)
        assert all(0 <= token_id < tokens.n_vocab for token_id in token_ids)
        tokens.decode(token_ids)
    assert tokens.least_tokens(len(text)) <= len(tokens.encode(text, add_special=False, parse_special=False))


def template(data: bytes) -> None:
    """A template of these bytes, on messages that try to spell a control token."""
    source = data.decode("utf-8", "surrogateescape")
    try:
        token_ids = ChatTemplate(source, TOKENIZER).encode(MESSAGES)
    except (ModelFileError, RequestError) as error:
        _check_line(error)
    else:
        assert SECRET_ID not in token_ids, "a message became a control token"


def _check_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


#: Words that a random byte would take long to become.
WORDS = {
    "reader": ("GGUF", "general.alignment", "split.count", "split.no", "split.tensors.count"),
    "tokenizer": ("<0x41>", "</s>", "▁the", "▁▁▁▁", "Hello", "Ġthe", "  \n", "12345", "e\u0301", "<|im_end|>"),
    "template": (
        "{{", "}}", "{%-", "-%}", "{#", "for m in messages", "endfor", "if", "elif", "else", "endif", "set ns =",
        "namespace(", "macro f(x)", "endmacro", "loop.index", "loop.last", "m['content']", "message.role", "range(",
        "recursive", "call", "endcall", "filter", "endfilter", "generation", "endgeneration", "break", "continue",
        ".split(", ".strip(", ".replace(", ".format(", ".join(", "| trim", "| tojson", "| join", "| map(attribute=",
        "| selectattr(", "| list", "| length", "| batch(", "| groupby(", "| sort", "| indent(", "| urlize",
        "is defined", "is string", "is mapping", "not in", " ~ ", " ** ", "[::-1]", "%s", "strftime_now(",
        "raise_exception(", "add_generation_prompt", "bos_token", "<|im_start|>", "<think>", "**kwargs",
        "*varargs", "caller()", "self", "set m.a = ", "set messages[0].content = ", "do l.append(", "is undefined",
        "functions", "datetime", "| from_json",
    ),
}  # fmt: skip


def small_file() -> bytes:
    """A key of each kind and two tensors: what a fuzzer can turn over in a moment."""
    numbers = {f"n{kind}": Typed(kind, 1) for kind in (*range(BOOL + 1), *range(UINT64, FLOAT64 + 1))}
    lists = {"texts": ["a", "bc", ""], "ids": np.arange(3, dtype=np.int32), "truths": np.array([True, False])}
    tensors = [Tensor("a", "IQ2_KT", (256, 2), bytes(2 * 72)), Tensor("b", "F32", (3,), bytes(12))]
    return gguf_bytes({"general.architecture": "llama"} | numbers | lists, tensors)


#: target -> (what takes the bytes, the inputs that fuzzing begins with)
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "reader": (reader, [small_file()]),
    "tokenizer": (tokenizer, [bytes(64), bytes(range(256))]),
    "template": (template, [source.encode() for source in ALL.values()]),
}


def main(target: str, *options: str) -> None:
    function, seeds = TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for i, seed in enumerate(seeds):
            (corpus / str(i)).write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS[target]))
        atheris.Setup([sys.argv[0], *options, f"-dict={words}", str(corpus)], function)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    """As libFuzzer's dictionaries want it."""
    return "".join(f"\\x{byte:02X}" for byte in word.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
