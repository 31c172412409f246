"""Calls whose arguments are texts between tags: Qwen3-Coder and Qwen3.5, GLM 4.5 to 4.7."""

import json
from collections.abc import Callable, Generator

from engine.answers.calls.reading import CallFormat, CallReader, Steps
from engine.answers.chars import Malformed
from engine.answers.output import Draft
from engine.answers.values import json_of, schema_of, types_of
from engine.text.stop_strings import StopStrings


class _Arguments:
    """A JSON object that grows by arguments: by a string while it is read, by another value when it is whole."""

    def __init__(self, reader: CallReader, name: str) -> None:
        self._reader, self._name = reader, name
        self._draft = Draft(reader.output, name)
        self._n = 0

    def value_until(self, key: str, end: str, *, in_lines: bool) -> Steps:
        """in_lines: one line break after the begin tag and one before the end tag are layout."""
        self._draft.add(("{" if not self._n else ", ") + json.dumps(key, ensure_ascii=False) + ": ")
        self._n += 1
        types = types_of(schema_of(self._reader.tools, self._name, key))
        if types == {"string"}:
            yield from self._string(end, in_lines)
            return
        read: list[str] = []
        yield from _each(self._reader, end, in_lines, read.append)
        self._draft.add(json_of("".join(read), types))

    def _string(self, end: str, in_lines: bool) -> Steps:
        self._draft.add('"')
        yield from _each(
            self._reader,
            end,
            in_lines,
            lambda text: self._draft.add(json.dumps(text, ensure_ascii=False)[1:-1]),
        )
        self._draft.add('"')

    def end(self) -> None:
        self._draft.add("{}" if not self._n else "}")
        self._draft.finish()


def _each(reader: CallReader, end: str, in_lines: bool, take: Callable[[str], object]) -> Steps:
    """take the text before `end`, piece by piece. Raises Malformed where the answer ends first."""
    finder = StopStrings([end])
    held, is_first, found = "", in_lines, False
    while not found:
        char = yield from reader.chars.next()
        if not char:
            raise Malformed
        text, found = finder.push(char)
        text = held + text
        held = ""
        if is_first and text:
            text, is_first = text.removeprefix("\n"), False
        if in_lines and text.endswith("\n"):
            text, held = text[:-1], "\n"
        if text:
            take(text)


def _qwen3_coder(reader: CallReader) -> Steps:
    """<tool_call> <function=name> <parameter=key> value </parameter> ... </function> </tool_call>, in lines.

    The models leave out the first tag now and then.
    """
    while marker := (yield from reader.content_until(["<tool_call>", "<function="])):
        if (yield from reader.attempt(_qwen3_coder_call(reader, marker), marker)):
            yield from reader.chars.take("</tool_call>")


def _qwen3_coder_call(reader: CallReader, marker: str) -> Steps:
    if marker == "<tool_call>":
        yield from reader.chars.expect("<function=")
    name, _ = yield from reader.name_until([">"])
    arguments = _Arguments(reader, name)
    while not (yield from reader.chars.take("</function>")):
        yield from reader.chars.expect("<parameter=")
        key, _ = yield from reader.text_until([">"], 256)
        yield from arguments.value_until(key.strip(), "</parameter>", in_lines=True)
    arguments.end()


def _glm(reader: CallReader) -> Steps:
    """<tool_call>name <arg_key>key</arg_key> <arg_value>value</arg_value> ... </tool_call>"""
    while marker := (yield from reader.content_until(["<tool_call>"])):
        yield from reader.attempt(_glm_call(reader), marker)


def _glm_call(reader: CallReader) -> Steps:
    name, marker = yield from reader.name_until(["<arg_key>", "</tool_call>"])
    arguments = _Arguments(reader, name)
    while marker == "<arg_key>":
        key, _ = yield from reader.text_until(["</arg_key>"], 256)
        yield from reader.chars.expect("<arg_value>")
        yield from arguments.value_until(key.strip(), "</arg_value>", in_lines=False)
        marker = yield from _next_tag(reader)
    arguments.end()


def _next_tag(reader: CallReader) -> Generator[None, str, str]:
    if (yield from reader.chars.take("<arg_key>")):
        return "<arg_key>"
    yield from reader.chars.expect("</tool_call>")
    return "</tool_call>"


QWEN3_CODER = CallFormat("qwen3_coder", _qwen3_coder, ("<tool_call>", "</tool_call>"))
GLM = CallFormat(
    "glm", _glm, ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
)
