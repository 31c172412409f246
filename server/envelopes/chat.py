"""OpenAI's chat completions: messages, deltas, tool calls, thoughts."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.answers.parts import CallArguments, CallStart, Part, Text, Thought
from engine.text.tokenizer import Tokenizer
from server.envelopes.logprobs import chat_logprobs
from server.envelopes.openai import OpenAIEnvelope, Shape, ids_of
from server.generations.generation import Generation
from server.generations.pieces import Piece, TokenText, text_of, thoughts_of


@dataclass(frozen=True)
class ChatShape(Shape):
    """hides_thoughts: they are left out. is_legacy: a call is a `function_call`, of which a message has one.
    is_named: the client said which tool is called, so that calling it is no choice of the model's. prefix: a text
    in front of each answer, which continues it."""

    hides_thoughts: bool = False
    is_legacy: bool = False
    is_named: bool = False
    prefix: str = ""


class ChatEnvelope(OpenAIEnvelope):
    """Chunks are in OpenAI's order: role, contents, an empty delta with the reason, usage."""

    def __init__(self, base: dict[str, Any], shape: ChatShape, tokenizer: Tokenizer) -> None:
        super().__init__(base, shape, tokenizer)
        self._chat = shape
        self._with_calls: set[int] = set()  # choices that have called a tool

    def begin(self, generation: Generation) -> bytes:
        """The role of each choice, and the beginning of a message that is continued."""
        roles = []
        for index in range(len(generation.choices)):
            first = self._chunk(index, {"role": "assistant", "content": ""})
            more = self.prompt_fields(generation, 0) if index == 0 else {}
            roles.append(self.of_choice(first, generation, **more))
            if self._chat.prefix:
                roles.append(self.of_choice(self._chunk(index, {"content": self._chat.prefix}), generation))
        return b"".join(roles)

    def chunk(self, piece: Piece, generation: Generation) -> bytes:
        if piece.progress is not None:
            told = self.progress(piece, generation, self._chunk(piece.index, {}))
            return told + b"".join(self._events(piece, generation))
        quick = self.quick(piece, lambda text: self._chunk(piece.index, {"content": text}))
        return b"".join(self._events(piece, generation)) if quick is None else quick

    def _events(self, piece: Piece, generation: Generation) -> list[bytes]:
        """One for each part; the tokens go with the first."""
        tokens = piece.tokens
        made = []
        for delta in filter(None, (self._delta(piece.index, part) for part in piece.parts)):
            choice = self._chunk(piece.index, delta, tokens)
            made.append(self.of_choice(choice, generation))
            tokens = ()
        if piece.finish_reason is not None:
            choice = self._chunk(piece.index, {}, tokens, self._reason(piece))
            if piece.stop_reason is not None:
                choice["stop_reason"] = piece.stop_reason
            made.append(self.of_choice(choice, generation, timings=generation.timings))
        return made

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        tokens: Sequence[TokenText] = (),
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": self._logprobs(tokens), "finish_reason": reason}
        if self.shape.token_ids:
            choice["token_ids"] = ids_of(tokens)
        return choice

    def _logprobs(self, tokens: Sequence[TokenText]) -> dict[str, Any] | None:
        if self.shape.logprobs is None or not tokens:
            return None
        ids = self.shape.ids_as_tokens
        return chat_logprobs(self.tokenizer, tokens, self.shape.logprobs, ids_as_tokens=ids)

    def _delta(self, index: int, part: Part) -> dict[str, Any] | None:
        """None for what the client does not see."""
        if isinstance(part, Text):
            return {"content": part.text}
        if isinstance(part, Thought):
            if self._chat.hides_thoughts:
                return None
            return {"reasoning_content": part.text, "reasoning": part.text}
        self._with_calls.add(index)
        if self._chat.is_legacy:
            return _function_delta(part)
        return {"tool_calls": [_call_delta(part)]}

    def _reason(self, piece: Piece) -> str:
        """A call is the reason only where the model stopped by itself: one that was cut stays visible."""
        assert piece.finish_reason is not None
        if piece.finish_reason != "stop" or piece.index not in self._with_calls or self._chat.is_named:
            return piece.finish_reason
        return "function_call" if self._chat.is_legacy else "tool_calls"

    def whole(self, answers: Sequence[Piece], generation: Generation) -> dict[str, Any]:
        body = self.whole_answer([self._choice(piece) for piece in answers], generation)
        return {**body, **self.prompt_fields(generation, 0)}

    def _choice(self, piece: Piece) -> dict[str, Any]:
        message = self._message(piece)
        choice: dict[str, Any] = {
            "index": piece.index,
            "message": message,
            "logprobs": self._logprobs(piece.tokens),
            "finish_reason": self._reason(piece),
        }
        if self.shape.logprobs is not None and choice["logprobs"] is None:
            choice["logprobs"] = {"content": [], "refusal": None}
        if piece.stop_reason is not None:
            choice["stop_reason"] = piece.stop_reason
        if self.shape.token_ids:
            choice["token_ids"] = ids_of(piece.tokens)
        return choice

    def _message(self, piece: Piece) -> dict[str, Any]:
        """content is null where there are calls alone."""
        content = self._chat.prefix + text_of(piece.parts)
        calls = _calls_of(piece.parts)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        thoughts = "" if self._chat.hides_thoughts else thoughts_of(piece.parts)
        if thoughts:
            message |= {"reasoning_content": thoughts, "reasoning": thoughts}
        if calls:
            self._with_calls.add(piece.index)
            message["content"] = content or None
            if self._chat.is_legacy:
                message["function_call"] = calls[0]["function"]
            else:
                message["tool_calls"] = calls
        return message


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _call_delta(part: CallStart | CallArguments) -> dict[str, Any]:
    """The first delta of a call has its id and its whole name, the others pieces of its arguments."""
    if isinstance(part, CallArguments):
        return {"index": part.index, "function": {"arguments": part.text}}
    function = {"name": part.name, "arguments": ""}
    return {"index": part.index, "id": _call_id(), "type": "function", "function": function}


def _function_delta(part: CallStart | CallArguments) -> dict[str, Any] | None:
    if part.index:
        return None
    if isinstance(part, CallArguments):
        return {"function_call": {"arguments": part.text}}
    return {"function_call": {"name": part.name, "arguments": ""}}


def _calls_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        if isinstance(part, CallStart):
            function = {"name": part.name, "arguments": ""}
            calls[part.index] = {"id": _call_id(), "type": "function", "function": function}
        elif isinstance(part, CallArguments):
            calls[part.index]["function"]["arguments"] += part.text
    return list(calls.values())
