"""Chat messages to the prompt the model was trained on, by the template in its file.

A template comes from a stranger and so does every message: the template runs in a sandbox with a budget, and
the messages pass a guard, so that only what the template itself wrote can be a special token.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from engine.errors import ModelFileError, RequestError
from engine.text.budget import Budget
from engine.text.guard import ControlTexts, Guard, unused_mark
from engine.text.messages import normalize_messages
from engine.text.sandbox import Sandbox, compile_error, one_line
from engine.text.tokenizer import Tokenizer

KEY = "tokenizer.chat_template"
MAX_SOURCE = 1 << 16  # characters; the longest real ones have less than half

# For a model whose file has no template: plain words, nothing it must have been trained on.
DEFAULT_SOURCE = """\
{%- for message in messages -%}
{{ message.role | capitalize }}: {{ message.content | trim }}
{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt %}Assistant:{% endif -%}
"""
DEFAULT_STOPS = ("\nUser:",)  # or the model would go on and speak for the user


class ChatTemplate:
    """Renders and encodes conversations; may be used from several threads at once."""

    def __init__(self, source: str, tokenizer: Tokenizer, stops: tuple[str, ...] = ()) -> None:
        """stops: strings that end an answer. Raises ModelFileError if the template does not compile."""
        if len(source) > MAX_SOURCE:
            raise ModelFileError(f"{KEY} has {len(source)} characters; at most {MAX_SOURCE} are read")
        self.source = source
        self.stops = stops
        self._tokenizer = tokenizer
        self._control = ControlTexts(tokenizer.control)
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except (TemplateError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ModelFileError(f"{KEY} does not compile: {compile_error(error)}") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], tokenizer: Tokenizer) -> "ChatTemplate":
        """The file's template, or the plain default when it has none."""
        source = metadata.get(KEY)
        if source is None:
            return cls(DEFAULT_SOURCE, tokenizer, DEFAULT_STOPS)
        if not isinstance(source, str):
            raise ModelFileError(f"{KEY} is not a string")
        return cls(source, tokenizer)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt as text. Raises RequestError: wrong messages, a template that refuses or runs on."""
        text, mark = self._render(messages, add_generation_prompt, extra or {})
        return text.replace(mark, "")

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
        limit: int | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[int]:
        """The prompt as token ids, with exactly one BOS in front where the model adds one.

        limit, cancelled: see Tokenizer.encode.
        """
        text, mark = self._render(messages, add_generation_prompt, extra or {})
        token_ids = self._tokenizer.encode(
            text, add_special=False, parse_special=True, guard=mark, limit=limit, cancelled=cancelled
        )
        bos_id = self._tokenizer.bos_id
        if self._tokenizer.add_bos and bos_id is not None and token_ids[:1] != [bos_id]:
            token_ids.insert(0, bos_id)
        return token_ids

    def _render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, extra: Mapping[str, Any]
    ) -> tuple[str, str]:
        """The prompt with the guard's marks in it, and the mark."""
        given = {"messages": normalize_messages(messages, self.source), **extra}
        mark = unused_mark(given, self.source)
        guard = Guard(self._control, mark)
        variables = {
            "tools": None,
            "documents": None,
            **self._special_texts(),
            **guard.guarded(given),
            "add_generation_prompt": add_generation_prompt,
        }
        return self._run(variables, guard), mark

    def _run(self, variables: dict[str, Any], guard: Guard) -> str:
        context = self._template.new_context(variables)
        try:
            with self._sandbox.running(Budget(variables), guard):
                return "".join(self._template.root_render_func(context))
        except RequestError:
            raise
        except Exception as error:  # whatever a template can raise, on these messages
            reason = one_line(error) or type(error).__name__
            raise RequestError(f"the model's chat template failed: {reason}", param="messages") from error

    def _special_texts(self) -> dict[str, str]:
        vocabulary = self._tokenizer.vocabulary
        ids = {"bos": vocabulary.bos_id, "eos": vocabulary.eos_id, "unk": vocabulary.unk_id}
        ids["pad"] = vocabulary.pad_id
        return {f"{name}_token": "" if i is None else vocabulary.texts[i] for name, i in ids.items()}
