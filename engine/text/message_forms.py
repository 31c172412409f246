"""The forms in which a template may want its messages, and which of them to try for a conversation.

Templates disagree about five things and none says which it expects: whether tool calls' arguments are a mapping
or JSON text, whether an absent content is null or "", whether there is a system message, whether content is
text or a list of parts, and whether there are tools. The first form is the one most templates were written for;
the next is tried where a template fails, refuses the messages, or prints a value in Python's spelling, which no
model was trained on.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from engine.text.folding import Message, folded_system, folded_tools, functions_of, has_tools, text_of_content
from engine.text.messages import ROLES, Arguments


class System(Enum):
    """Where system messages go."""

    OWN = "messages of their own"
    LEADING = "one message at the start; later ones in the user message after them"
    FOLDED = "in the user message after them"


@dataclass(frozen=True)
class Traits:
    """What a template showed when it was tried out on short conversations (template_traits.py)."""

    shows_user: bool = True
    shows_system: bool = True
    knows_developer: bool = False
    takes_parts: bool = False  # content must be a list of parts
    knows_tools: bool = True
    drops_results: bool = False  # leaves out what a tool said; one that knows tools may want another shape
    wants_tools_undefined: bool = False  # fails on tools that are none, as those that loop over tools do
    reads_functions: bool = False  # wants the tools as JSON text in `functions`, and the time in `datetime`


@dataclass(frozen=True)
class Form:
    """One way to hand a conversation to a template."""

    system: System = System.OWN
    null_as_text: bool = False
    arguments_as_text: bool = False
    others_as_user: bool = False  # a role outside ROLES, such as critic, becomes user
    tools_as_text: bool = False  # calls are the assistant's words, results the user's


class Misfit(Exception):
    """A template prints what only another form makes text."""


class Unprintable:
    """The values of a form that a template may look at and must not print.

    A null would read None, and a mapping {'city': 'Rome'}: the next form has text in its place.
    """

    def __init__(self, form: Form, messages: Sequence[Message]) -> None:
        self._has_null = not form.null_as_text and any(m["content"] is None for m in messages)
        arguments = (function.get("arguments") for function in _functions(messages))
        self._mappings = {id(a): a for a in arguments if isinstance(a, dict)}

    def check(self, value: Any) -> None:
        """Raises Misfit."""
        if (value is None and self._has_null) or id(value) in self._mappings:
            raise Misfit


def forms_for(messages: Sequence[Message], traits: Traits) -> Iterator[Form]:
    """Those that differ for these normalized messages, the first to try first.

    Arguments change before nulls do: DeepSeek's templates know a message that only calls tools by its null, and
    with "" in its place they would leave the calls out.
    """
    systems = [System.OWN] if traits.shows_system else []
    if any(message["role"] in ("system", "developer") for message in messages):
        systems += [System.LEADING, System.FOLDED] if traits.shows_system else [System.FOLDED]
    has_arguments = any(isinstance(f.get("arguments"), Arguments) for f in _functions(messages))
    has_null = any(message["content"] is None for message in messages)
    has_others = any(message["role"] not in ROLES for message in messages)
    nulls, arguments, others = map(_both_if, (has_null, has_arguments, has_others))
    places = systems or [System.OWN]
    foreign_tools = has_tools(messages) and not traits.knows_tools
    if not (foreign_tools and traits.drops_results):
        yield from itertools.starmap(Form, itertools.product(places, nulls, arguments, others))
    if foreign_tools:
        yield from itertools.starmap(Form, itertools.product(places, nulls, (False,), others, (True,)))


def formed(messages: Sequence[Message], form: Form, traits: Traits) -> list[Message]:
    """The normalized messages in that form."""
    told = folded_tools(messages) if form.tools_as_text else messages
    roles_known = [_with_known_role(message, traits, form) for message in told]
    if form.system is not System.OWN:
        roles_known = folded_system(roles_known, keeps_leading=form.system is System.LEADING)
    return [_formed(message, form, traits) for message in roles_known]


def _both_if(differs: bool) -> tuple[bool, ...]:
    return (False, True) if differs else (False,)


def _with_known_role(message: Message, traits: Traits, form: Form) -> Message:
    if form.others_as_user and message["role"] not in ROLES:
        return message | {"role": "user"}
    keeps = traits.knows_developer and form.system is System.OWN
    return message if message["role"] != "developer" or keeps else message | {"role": "system"}


def _formed(message: Message, form: Form, traits: Traits) -> Message:
    message = message | {"content": _formed_content(message["content"], form, traits)}
    if isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_formed_call(call, form) for call in calls]
    if "function_call" in message:
        message["function_call"] = _formed_function(message["function_call"], form)
    return message


def _formed_content(content: Any, form: Form, traits: Traits) -> Any:
    if content is None and not form.null_as_text:
        return None
    if not traits.takes_parts:
        return text_of_content(content)
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _formed_call(call: Any, form: Form) -> Any:
    is_function = isinstance(call, dict) and "function" in call
    return call | {"function": _formed_function(call["function"], form)} if is_function else call


def _formed_function(function: Any, form: Form) -> Any:
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, Arguments):
        return function
    return function | {"arguments": arguments.text if form.arguments_as_text else dict(arguments)}


def _functions(messages: Iterable[Message]) -> Iterator[Mapping[str, Any]]:
    return itertools.chain.from_iterable(map(functions_of, messages))
