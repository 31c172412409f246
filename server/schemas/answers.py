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
    return _object({**always, "usage": usage}) if whole else _object(always, usage=usage)


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_NONE: dict[str, Any] = {"type": "null"}
_REASON: dict[str, Any] = {"enum": ["stop", "length"]}
_MESSAGE = _object({"role": {"const": "assistant"}, "content": _TEXT, "refusal": _NONE})
_DELTA = {"type": "object", "properties": {"role": {"const": "assistant"}, "content": _TEXT}}
_EVENT_USAGE = {"anyOf": [_ref("Usage"), _NONE], "description": "With stream_options."}


def _choice(content: dict[str, Any], reason: dict[str, Any]) -> dict[str, Any]:
    return _object({"index": _COUNT, **content, "logprobs": _NONE, "finish_reason": reason})


_OR_NOT_YET = {"anyOf": [_REASON, _NONE]}

#: Name -> schema, for components.schemas.
ANSWERS: dict[str, dict[str, Any]] = {
    "ChatCompletion": _answer(
        "chat.completion", _choice({"message": _MESSAGE}, _REASON), _ref("Usage"), whole=True
    ),
    "ChatCompletionChunk": _answer(
        "chat.completion.chunk", _choice({"delta": _DELTA}, _OR_NOT_YET), _EVENT_USAGE, whole=False
    ),
    "Completion": _answer(
        "text_completion", _choice({"text": _TEXT}, _OR_NOT_YET), _EVENT_USAGE, whole=False
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
