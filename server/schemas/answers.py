"""JSON Schemas of what the completion routes answer, for openapi.json. A test holds real answers against them."""

from typing import Any


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(kind: str, choice: dict[str, Any], usage: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """The fields that every object and event of an answer has. usage is in every whole answer."""
    always = {
        "id": _TEXT,
        "object": {"const": kind},
        "created": {**_COUNT, "description": "Seconds since 1970."},
        "model": _TEXT,
        "system_fingerprint": {**_TEXT, "description": "Version of the server, model and settings."},
        "choices": {"type": "array", "items": choice},
    }
    more = {**_TIMES, **_PROMPT_FIELDS}
    if whole:
        return _object({**always, "usage": usage}, **more)
    return _object(always, usage=usage, **_PROGRESS, **more)


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_NONE: dict[str, Any] = {"type": "null"}
_NUMBER: dict[str, Any] = {"type": "number"}
_IDS: dict[str, Any] = {"type": "array", "items": _COUNT}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_none(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, _NONE]}


_REASON: dict[str, Any] = {"enum": ["stop", "length"]}
_CHAT_REASON: dict[str, Any] = {"enum": ["stop", "length", "tool_calls", "function_call"]}
_FUNCTION = _object({"name": _TEXT, "arguments": {**_TEXT, "description": "JSON."}})
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _FUNCTION})
_CALL_DELTA = _object(
    {"index": _COUNT, "function": {"type": "object", "properties": {"name": _TEXT, "arguments": _TEXT}}},
    id=_TEXT,
    type={"const": "function"},
)
_THOUGHTS = {
    "reasoning_content": {**_TEXT, "description": "What the model thought before its answer."},
    "reasoning": {**_TEXT, "description": "The same, by its other name."},
}
_MESSAGE = _object(
    {
        "role": {"const": "assistant"},
        "content": {**_or_none(_TEXT), "description": "null where there are calls alone."},
        "refusal": _NONE,
    },
    tool_calls=_list(_CALL),
    function_call=_FUNCTION,
    **_THOUGHTS,
)
_DELTA = {
    "type": "object",
    "properties": {
        "role": {"const": "assistant"},
        "content": _TEXT,
        "tool_calls": _list(_CALL_DELTA),
        "function_call": {"type": "object", "properties": {"name": _TEXT, "arguments": _TEXT}},
        **_THOUGHTS,
    },
}
_EVENT_USAGE = {"anyOf": [_ref("Usage"), _NONE], "description": "With stream_options."}


_TOKEN = {"id": _COUNT, "token": _TEXT, "logprob": _NUMBER, "bytes": _IDS}
_CHAT_LOGPROBS = _object({"content": _list(_object({**_TOKEN, "top_logprobs": _list(_object(_TOKEN))}))})
_LOGPROBS = _object(
    {
        "tokens": _list(_TEXT),
        "token_logprobs": _list(_or_none(_NUMBER)),
        "top_logprobs": _list(_or_none({"type": "object", "additionalProperties": _NUMBER})),
        "text_offset": _IDS,
    }
)
_PROMPT_FIELDS = {
    "prompt_token_ids": {**_IDS, "description": "With return_token_ids."},
    "prompt_logprobs": _list(_or_none({"type": "object"})),
}
_TIMES = {
    "timings": {"type": "object", "description": "Tokens and milliseconds of the prompt and the answer."}
}
_PROGRESS = {
    "prompt_progress": _object({"total": _COUNT, "cache": _COUNT, "processed": _COUNT, "time_ms": _NUMBER})
}


def _choice(
    content: dict[str, Any], logprobs: dict[str, Any], reason: dict[str, Any], **more: Any
) -> dict[str, Any]:
    told = {"index": _COUNT, **content, "logprobs": _or_none(logprobs), "finish_reason": reason}
    ending = {"anyOf": [_TEXT, _COUNT], "description": "The stop string or token that ended it."}
    return _object(told, token_ids=_IDS, stop_reason=ending, **more)


#: Name -> schema, for components.schemas.
ANSWERS: dict[str, dict[str, Any]] = {
    "ChatCompletion": _answer(
        "chat.completion",
        _choice({"message": _MESSAGE}, _CHAT_LOGPROBS, _CHAT_REASON),
        _ref("Usage"),
        whole=True,
    ),
    "ChatCompletionChunk": _answer(
        "chat.completion.chunk",
        _choice({"delta": _DELTA}, _CHAT_LOGPROBS, _or_none(_CHAT_REASON)),
        _EVENT_USAGE,
        whole=False,
    ),
    "Completion": _answer(
        "text_completion",
        _choice({"text": _TEXT}, _LOGPROBS, _or_none(_REASON), **_PROMPT_FIELDS),
        _EVENT_USAGE,
        whole=False,
    ),
    "Usage": _object(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "prompt_tokens_details": _object({"cached_tokens": _COUNT}),
            "completion_tokens_details": _object({"reasoning_tokens": _COUNT}),
        }
    ),
    "Error": _object(
        {
            "error": _object(
                {
                    "message": {**_TEXT, "description": "What was wrong, where, and what would work."},
                    "type": _TEXT,
                    "param": {"type": ["string", "null"], "description": "The field, as a path."},
                    "code": {"type": ["string", "null"]},
                }
            )
        }
    ),
}
