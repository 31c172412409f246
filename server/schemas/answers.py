"""JSON Schemas of what the completion routes answer, for openapi.json. A test holds real answers against them."""

from typing import Any

from server.schemas.json_schema import COUNT, IDS, NONE, NUMBER, TEXT, list_of, object_of, or_none, ref


def _answer(kind: str, choice: dict[str, Any], usage: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """The fields that every object and event of an answer has. usage is in every whole answer."""
    always = {
        "id": TEXT,
        "object": {"const": kind},
        "created": {**COUNT, "description": "Seconds since 1970."},
        "model": TEXT,
        "system_fingerprint": {**TEXT, "description": "Version of the server, model and settings."},
        "choices": {"type": "array", "items": choice},
    }
    more = {**_TIMES, **_PROMPT_FIELDS}
    if whole:
        return object_of({**always, "usage": usage}, **more)
    return object_of(always, usage=usage, **_PROGRESS, **more)


_REASON: dict[str, Any] = {"enum": ["stop", "length"]}
_CHAT_REASON: dict[str, Any] = {"enum": ["stop", "length", "tool_calls", "function_call"]}
_FUNCTION = object_of({"name": TEXT, "arguments": {**TEXT, "description": "JSON."}})
_CALL = object_of({"id": TEXT, "type": {"const": "function"}, "function": _FUNCTION})
_CALL_DELTA = object_of(
    {"index": COUNT, "function": {"type": "object", "properties": {"name": TEXT, "arguments": TEXT}}},
    id=TEXT,
    type={"const": "function"},
)
_THOUGHTS = {
    "reasoning_content": {**TEXT, "description": "What the model thought before its answer."},
    "reasoning": {**TEXT, "description": "The same, by its other name."},
}
_MESSAGE = object_of(
    {
        "role": {"const": "assistant"},
        "content": {**or_none(TEXT), "description": "null where there are calls alone."},
        "refusal": NONE,
    },
    tool_calls=list_of(_CALL),
    function_call=_FUNCTION,
    **_THOUGHTS,
)
_DELTA = {
    "type": "object",
    "properties": {
        "role": {"const": "assistant"},
        "content": TEXT,
        "tool_calls": list_of(_CALL_DELTA),
        "function_call": {"type": "object", "properties": {"name": TEXT, "arguments": TEXT}},
        **_THOUGHTS,
    },
}
_EVENT_USAGE = {"anyOf": [ref("Usage"), NONE], "description": "With stream_options."}


_TOKEN = {"id": COUNT, "token": TEXT, "logprob": NUMBER, "bytes": IDS}
_CHAT_LOGPROBS = object_of(
    {"content": list_of(object_of({**_TOKEN, "top_logprobs": list_of(object_of(_TOKEN))}))}
)
_LOGPROBS = object_of(
    {
        "tokens": list_of(TEXT),
        "token_logprobs": list_of(or_none(NUMBER)),
        "top_logprobs": list_of(or_none({"type": "object", "additionalProperties": NUMBER})),
        "text_offset": IDS,
    }
)
_PROMPT_FIELDS = {
    "prompt_token_ids": {**IDS, "description": "With return_token_ids."},
    "prompt_logprobs": list_of(or_none({"type": "object"})),
}
_TIMES = {
    "timings": {"type": "object", "description": "Tokens and milliseconds of the prompt and the answer."}
}
_PROGRESS = {
    "prompt_progress": object_of({"total": COUNT, "cache": COUNT, "processed": COUNT, "time_ms": NUMBER})
}


def _choice(
    content: dict[str, Any], logprobs: dict[str, Any], reason: dict[str, Any], **more: Any
) -> dict[str, Any]:
    told = {"index": COUNT, **content, "logprobs": or_none(logprobs), "finish_reason": reason}
    ending = {"anyOf": [TEXT, COUNT], "description": "The stop string or token that ended it."}
    return object_of(told, token_ids=IDS, stop_reason=ending, **more)


#: Name -> schema, for components.schemas.
ANSWERS: dict[str, dict[str, Any]] = {
    "ChatCompletion": _answer(
        "chat.completion",
        _choice({"message": _MESSAGE}, _CHAT_LOGPROBS, _CHAT_REASON),
        ref("Usage"),
        whole=True,
    ),
    "ChatCompletionChunk": _answer(
        "chat.completion.chunk",
        _choice({"delta": _DELTA}, _CHAT_LOGPROBS, or_none(_CHAT_REASON)),
        _EVENT_USAGE,
        whole=False,
    ),
    "Completion": _answer(
        "text_completion",
        _choice({"text": TEXT}, _LOGPROBS, or_none(_REASON), **_PROMPT_FIELDS),
        _EVENT_USAGE,
        whole=False,
    ),
    "Usage": object_of(
        {
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "prompt_tokens_details": object_of({"cached_tokens": COUNT}),
            "completion_tokens_details": object_of({"reasoning_tokens": COUNT}),
        }
    ),
    "Error": object_of(
        {
            "error": object_of(
                {
                    "message": {**TEXT, "description": "What was wrong, where, and what would work."},
                    "type": TEXT,
                    "param": {"type": ["string", "null"], "description": "The field, as a path."},
                    "code": {"type": ["string", "null"]},
                }
            )
        }
    ),
}
