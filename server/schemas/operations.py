"""Every route that openapi.json shows: what it answers, and which body it takes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from server.schemas.embeddings import EMBEDDING_FIELDS, EMBEDDINGS_FIELDS
from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, COMPLETIONS, RequestField
from server.schemas.route_fields import DETOKENIZE, DETOKENIZE_FIELDS, TOKENIZE, TOKENIZE_FIELDS


class Body(NamedTuple):
    """A request body: the name of its schema, its fields by their names, and one that is answered."""

    name: str
    fields: Mapping[str, RequestField]
    example: dict[str, Any]


class Operation(NamedTuple):
    """answer, event: names of schemas, of a whole answer and of an event where it can be a stream."""

    answer: str
    body: Body | None = None
    event: str | None = None


_HELLO = [{"role": "user", "content": "Hello! What are you?"}]
_CHAT = Body("ChatRequest", FIELDS.of_route(CHAT), {"messages": _HELLO, "max_tokens": 64})
_COMPLETION = Body(
    "CompletionRequest", FIELDS.of_route(COMPLETIONS), {"prompt": "Once upon a time", "max_tokens": 32}
)

#: Path -> what it answers, by POST where it has a body and else by GET.
OPERATIONS: dict[str, Operation] = {
    "/v1/chat/completions": Operation("ChatCompletion", _CHAT, "ChatCompletionChunk"),
    "/v1/completions": Operation("Completion", _COMPLETION, "Completion"),
    "/v1/chat/completions/render": Operation("RenderedRequest", _CHAT),
    "/v1/chat/completions/input_tokens": Operation("InputTokens", _CHAT),
    "/v1/embeddings": Operation(
        "Embeddings", Body("EmbeddingsRequest", EMBEDDINGS_FIELDS, {"input": "Hello!"})
    ),
    "/embedding": Operation(
        "EmbeddingList", Body("EmbeddingRequest", EMBEDDING_FIELDS, {"content": "Hello!"})
    ),
    "/apply-template": Operation("RenderedPrompt", _CHAT),
    "/tokenize": Operation(
        "Tokens",
        Body("TokenizeRequest", TOKENIZE_FIELDS.of_route(TOKENIZE), {"prompt": "Once upon a time"}),
    ),
    "/detokenize": Operation(
        "TokensText",
        Body("DetokenizeRequest", DETOKENIZE_FIELDS.of_route(DETOKENIZE), {"tokens": [5, 6, 7]}),
    ),
    "/tokenizer_info": Operation("TokenizerInfo"),
    "/v1/models": Operation("ModelList"),
    "/v1/models/{name}": Operation("Model"),
    "/props": Operation("Props"),
    "/slots": Operation("Slots"),
    "/health": Operation("Status"),
    "/ready": Operation("Status"),
    "/": Operation("About"),
    "/version": Operation("Version"),
}
