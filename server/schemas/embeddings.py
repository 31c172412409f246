"""POST /v1/embeddings and llama.cpp's /embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.pooling import POOLINGS, Pooling
from server.errors import ApiError
from server.schemas.fields import RequestField, Table, read_body
from server.schemas.openai_fields import accepted, honoured, refused
from server.schemas.values import BOOLEAN, TEXT, Kind, count, integer_of, text_of, wrong

EMBEDDINGS, EMBEDDING = "embeddings", "embedding"
MAX_INPUTS = 2048
MAX_INPUT_TOKENS = 300_000  # of all inputs together; both limits are OpenAI's
MAX_TEXT_PARTS = 64  # among the token ids of one input

Input = str | list[int | str]  # a text; token ids, with texts among them


def _one_of(*names: str) -> Kind:
    def read(value: Any, name: str) -> str:
        if text_of(value, name) not in names:
            raise wrong(name, f"one of {', '.join(names)}")
        return str(value)

    return Kind({"type": "string", "enum": list(names)}, read)


def _norm(value: Any, name: str) -> bool:
    """llama.cpp's norms: -1 none, 2 the Euclidean one. The others are nobody's embeddings."""
    if integer_of(value, name) not in (-1, 2):
        raise wrong(name, "2 (Euclidean) or -1 (none)")
    return bool(value == 2)


_TEXT_OR_IDS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "object", "description": '{"content": [text parts]}'},
]
_MIXED = {"type": "array", "items": {"anyOf": [{"type": "integer"}, *_TEXT_OR_IDS]}}
INPUT = Kind({"anyOf": [*_TEXT_OR_IDS, _MIXED, {"type": "array", "items": _MIXED}]}, lambda value, _: value)

_INPUT = honoured(
    "input content",
    f"A text, token ids, or a list of either: an embedding for each, of at most {MAX_INPUTS} inputs with "
    f"{MAX_INPUT_TOKENS} tokens together. A text gets BOS and EOS where the model adds them.",
    kind=INPUT,
)
_MODEL = honoured("model", "The served model; without it, the one that is served.", kind=TEXT)
_FORMAT = honoured(
    "encoding_format",
    "`float` (the default) or `base64`: little-endian float32.",
    kind=_one_of("float", "base64"),
)
_FIELDS: tuple[RequestField, ...] = (
    honoured(
        "dimensions",
        "So many numbers from the front of each embedding, scaled to length 1 again; at most the model's width.",
        kind=count(1),
    ),
    honoured(
        "pooling",
        "How a text's tokens become one vector: `mean` of all, the `last` one's, or the first one's (`cls`).",
        kind=_one_of(*POOLINGS),
    ),
    honoured(
        "normalize", "`false`: embeddings are as long as the model makes them.", kind=BOOLEAN, key="normalize"
    ),
    honoured(
        "embd_normalize",
        "llama.cpp's number for it: 2, or -1 for none.",
        kind=Kind({"enum": [2, -1]}, _norm),
        key="normalize",
    ),
    honoured("add_special_tokens", "`false`: texts get neither BOS nor EOS.", kind=BOOLEAN),
    refused("messages", "an embedding of a chat: send its prompt as input"),
    refused("truncate_prompt_tokens truncate truncation", "texts that are cut"),
    refused("embed_dtype output_dtype", "numbers of another type", "float32", "float"),
    refused("task task_type input_type prompt_name instruction prompt", "a text in front of the inputs"),
    accepted("user", "Whose request it is does not change it."),
    accepted("priority", "Requests are taken in the order in which they come."),
)


def _table(*fields: RequestField) -> Table:
    return Table(tuple(field.on(route) for field in fields for route in (EMBEDDINGS, EMBEDDING)))


EMBEDDINGS_FIELDS = _table(_MODEL, _INPUT, _FORMAT, *_FIELDS).of_route(EMBEDDINGS)
EMBEDDING_FIELDS = _table(_MODEL, _INPUT, *_FIELDS).of_route(EMBEDDING)


@dataclass(frozen=True)
class EmbeddingRequest:
    """pooling: None for the server's."""

    model: str | None
    inputs: list[Input]
    base64: bool
    dimensions: int | None
    pooling: Pooling | None
    normalize: bool
    add_special: bool


def embeddings_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """Raises ApiError 400 naming the field."""
    return _request(body, EMBEDDINGS_FIELDS)


def embedding_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """llama.cpp's. Raises ApiError 400 naming the field."""
    return _request(body, EMBEDDING_FIELDS)


def _request(body: Mapping[str, Any], known: Mapping[str, RequestField]) -> EmbeddingRequest:
    values = read_body(body, known)
    given = next((body[name] for name in _INPUT.names if body.get(name) is not None), None)
    if given is None:
        raise ApiError(400, "input is missing", param="input")
    return EmbeddingRequest(
        model=values.first("model"),
        inputs=_inputs(values.first("input", given)),
        base64=values.first("encoding_format") == "base64",
        dimensions=values.first("dimensions"),
        pooling=values.first("pooling"),
        normalize=values.first("normalize", True),
        add_special=values.first("add_special_tokens", True),
    )


def _inputs(value: Any) -> list[Input]:
    """Raises ApiError for anything but an input or a list of inputs. A list with bare token ids is one."""
    is_one = not isinstance(value, list) or any(isinstance(entry, int | float) for entry in value)
    entries = [value] if is_one else value
    if not 1 <= len(entries) <= MAX_INPUTS:
        raise ApiError(400, f"input has {len(entries)} entries; 1 to {MAX_INPUTS} work", param="input")
    return [_input(entry) for entry in entries]


def _input(value: Any) -> Input:
    if isinstance(value, dict):
        value = _text_of_object(value)
    if isinstance(value, str):
        return text_of(value, "input")
    if not isinstance(value, list) or not value:
        raise wrong("input", "a text, token ids, or a list of these")
    if len(value) > MAX_INPUT_TOKENS:
        raise too_many_tokens()
    if sum(isinstance(part, str) for part in value) > MAX_TEXT_PARTS:
        raise ApiError(400, f"an input has more than {MAX_TEXT_PARTS} texts among its ids", param="input")
    return [text_of(p, "input") if isinstance(p, str) else integer_of(p, "input") for p in value]


def _text_of_object(value: Mapping[str, Any]) -> str:
    """llama.cpp's {"prompt_string": text} and {"content": [text parts]}."""
    parts = value.get("content")
    if "prompt_string" in value:
        return text_of(value["prompt_string"], "input.prompt_string")
    if not isinstance(parts, list) or not all(_is_text_part(part) for part in parts):
        raise wrong("input", "a text, token ids, or an object with a list of text parts as content")
    return "".join(text_of(part["text"], "input.content") for part in parts)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def too_many_tokens() -> ApiError:
    return ApiError(400, f"the inputs have more than {MAX_INPUT_TOKENS} tokens together", param="input")
