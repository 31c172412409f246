"""Chat messages to the prompt the model was trained on, by the template in its file.

A template comes from a stranger and so does every message: the template runs in a sandbox with a budget, and
the messages pass a guard, so that only what the template itself wrote can be a special token.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from engine.errors import EspalierError, ModelFileError, RequestError
from engine.text.answer_prefix import end_with, until_cut
from engine.text.budget import BASE_STEPS, TRIAL_STEPS, Budget, Deadline, Exceeded, exceeded
from engine.text.guard import ControlTexts, Guard, unused_mark
from engine.text.keys import TEMPLATE_KEY
from engine.text.message_forms import Form, Message, Misfit, Traits, Unprintable, formed, forms_for
from engine.text.messages import check_value, hint_for, normalize_messages
from engine.text.sandbox import Sandbox
from engine.text.sandbox_globals import compile_error, functions_told, one_line
from engine.text.template_families import DEFAULT, ChosenTemplate
from engine.text.template_traits import find_traits
from engine.text.tokenizer import Tokenizer

MAX_SOURCE = 1 << 16  # characters; the longest real ones have less than half


class ChatPrompt(NamedTuple):
    """A rendered conversation."""

    text: str
    token_ids: list[int]


class ChatTemplate:
    """Renders and encodes conversations; may be used from several threads at once."""

    def __init__(self, source: str, tokenizer: Tokenizer, stops: tuple[str, ...] = ()) -> None:
        """stops: strings that end an answer. Raises ModelFileError if the template does not compile."""
        if len(source) > MAX_SOURCE:
            raise ModelFileError(
                f"{TEMPLATE_KEY} has {len(source)} characters; at most {MAX_SOURCE} are read"
            )
        if not source.strip():
            raise ModelFileError(f"{TEMPLATE_KEY} is empty")
        self.source = source
        self.stops = stops
        self.notes: tuple[str, ...] = ()  # one line each, for the person who started the server
        self._tokenizer = tokenizer
        self._control = ControlTexts(tokenizer.control)
        self._special_texts = {name: text or "" for name, text in tokenizer.special_texts().items()}
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except (TemplateError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ModelFileError(f"{TEMPLATE_KEY} does not compile: {compile_error(error)}") from error
        self._traits = self._find_traits()

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], tokenizer: Tokenizer, chosen: ChosenTemplate | None = None
    ) -> "ChatTemplate":
        """The chosen template, or the file's, or the plain default where the file's is absent or of no use.

        Raises EspalierError for a chosen template of no use: nobody chooses that.
        """
        if chosen is not None:
            return cls._chosen(chosen, tokenizer)
        source = metadata.get(TEMPLATE_KEY)
        default = cls(DEFAULT.source, tokenizer, DEFAULT.stops)
        if source is None:
            return default
        try:
            if not isinstance(source, str):
                raise ModelFileError(f"{TEMPLATE_KEY} is not a string")
            return cls(source, tokenizer)._that_shows_the_user()
        except ModelFileError as error:
            default.notes = (f"{error}; chats are written in plain words; --chat-template gives another",)
            return default

    @classmethod
    def _chosen(cls, chosen: ChosenTemplate, tokenizer: Tokenizer) -> "ChatTemplate":
        try:
            return cls(chosen.source, tokenizer, chosen.stops)._that_shows_the_user()
        except ModelFileError as error:
            raise EspalierError(f"--chat-template {chosen.name!r}: {error}") from error

    @property
    def knows_tools(self) -> bool:
        """The template tells a model of `tools`."""
        return self._traits.knows_tools

    def _that_shows_the_user(self) -> "ChatTemplate":
        """Itself. Raises ModelFileError for a template that gives the same prompt whatever a user says."""
        if not self._traits.shows_user:
            raise ModelFileError(f"{TEMPLATE_KEY} leaves out what the user says")
        return self

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt as text. Raises RequestError: wrong messages, a template that refuses or runs on.

        continues_last: it ends within the last message, which the answer continues.
        """
        given = {**(extra or {}), "add_generation_prompt": add_generation_prompt and not continues_last}
        text, mark = self._render(messages, given, continues_last, Deadline())
        return text.replace(mark, "")

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> list[int]:
        """The prompt as token ids."""
        return self.prompt(
            messages, add_generation_prompt=add_generation_prompt, extra=extra, limit=limit
        ).token_ids

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        extra: Mapping[str, Any] | None = None,
        limit: int | None = None,
        cancelled: threading.Event | None = None,
    ) -> ChatPrompt:
        """The prompt as text and as token ids, these with exactly one BOS in front where the model adds one.

        limit: see Tokenizer.encode. cancelled: set by another thread, it ends the work with an exception.
        """
        given = {**(extra or {}), "add_generation_prompt": add_generation_prompt and not continues_last}
        text, mark = self._render(messages, given, continues_last, Deadline(cancelled))
        token_ids = self._tokenizer.encode(
            text, add_special=False, parse_special=True, guard=mark, limit=limit, cancelled=cancelled
        )
        bos_id = self._tokenizer.bos_id
        if self._tokenizer.add_bos and bos_id is not None and token_ids[:1] != [bos_id]:
            token_ids.insert(0, bos_id)
        return ChatPrompt(text.replace(mark, ""), token_ids)

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        given: Mapping[str, Any],
        continues_last: bool,
        deadline: Deadline,
    ) -> tuple[str, str]:
        """The prompt with the guard's marks in it, and the mark."""
        normalized = normalize_messages(messages)
        check_value(dict(given), "chat_template_kwargs")
        guard = Guard(self._control, unused_mark(normalized, given, self.source))
        cut = unused_mark(normalized, given, self.source, guard.mark) if continues_last else ""
        failures: list[tuple[Form, RequestError]] = []
        for form in forms_for(normalized, self._traits):
            try:
                text = self._render_form(normalized, form, self._traits, given, guard, deadline, cut=cut)
                return until_cut(text, cut), guard.mark
            except Misfit:
                continue
            except Exceeded:
                raise
            except RequestError as error:
                failures.append((form, error))
        # The error of the most usual form tells most, unless it is about null, which many templates cannot read.
        _, failure = min(failures, key=lambda failed: not failed[0].null_as_text)
        raise RequestError(f"{failure}{hint_for(normalized)}", param=failure.param) from failure

    def _render_form(
        self,
        normalized: Sequence[Message],
        form: Form,
        traits: Traits,
        given: Mapping[str, Any],
        guard: Guard,
        deadline: Deadline,
        base_steps: int = BASE_STEPS,
        cut: str = "",
    ) -> str:
        messages = guard.guarded(formed(normalized, form, traits))
        if cut:
            end_with(messages[-1], cut)
        absent = {} if traits.wants_tools_undefined else {"tools": None, "documents": None}
        told = functions_told(given.get("tools")) if traits.reads_functions else {}
        guarded = guard.guarded({**told, **given})
        variables = {**absent, **self._special_texts, **guarded, "messages": messages}
        unprintable = Unprintable(form, messages)
        with self._sandbox.running(Budget(variables, deadline, base_steps), guard, unprintable):
            return self._run(variables)

    def _run(self, variables: dict[str, Any]) -> str:
        context = self._template.new_context(variables)
        try:
            return "".join(self._template.root_render_func(context))
        except (RequestError, Misfit):
            raise
        except RecursionError as error:
            raise exceeded("calls nested too deep") from error
        except Exception as error:  # whatever a template can raise, on these messages
            reason = one_line(error) or type(error).__name__
            raise RequestError(f"the model's chat template failed: {reason}", param="messages") from error

    def _find_traits(self) -> Traits:
        """All the short conversations together have the time of one request; none is tried after a bomb."""
        deadline = Deadline()

        def render(messages: list[Message], traits: Traits) -> str | None:
            guard = Guard(self._control, unused_mark(messages, self.source))
            given = {"add_generation_prompt": True}
            try:
                text = self._render_form(messages, Form(), traits, given, guard, deadline, TRIAL_STEPS)
            except Exceeded:
                raise
            except (RequestError, Misfit):
                return None
            return text.replace(guard.mark, "")

        try:
            return find_traits(render, self.source)
        except Exceeded:
            return Traits()
