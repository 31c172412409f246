"""JSON Schemas of what the routes beside the completions answer, for openapi.json. A test holds real answers against
them."""

from typing import Any

from server.schemas.json_schema import COUNT, IDS, NUMBER, TEXT, list_of, object_of, or_none, ref

_BYTES: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
_PIECE = {
    "anyOf": [TEXT, _BYTES],
    "description": "A text; its bytes where they are no UTF-8 by themselves.",
}
_TOKEN = {"anyOf": [COUNT, object_of({"id": COUNT, "piece": _PIECE})], "description": "See with_pieces."}
_TOKEN_STRS = {**or_none(list_of(TEXT)), "description": "With return_token_strs."}
_VECTOR = list_of(NUMBER)
_EMBEDDING = {"anyOf": [_VECTOR, TEXT], "description": "A text is the base64 of little-endian float32."}
_FLAG: dict[str, Any] = {"type": "boolean"}

#: Name -> schema, for components.schemas.
ROUTE_ANSWERS: dict[str, dict[str, Any]] = {
    "Tokens": object_of(
        {"count": COUNT, "max_model_len": COUNT, "tokens": list_of(_TOKEN), "token_strs": _TOKEN_STRS}
    ),
    "TokensText": object_of({"content": TEXT, "prompt": {**TEXT, "description": "The same."}}),
    "TokenizerInfo": object_of(
        {
            "tokenizer_class": TEXT,
            **{f"{name}_token": or_none(TEXT) for name in ("bos", "eos", "unk", "pad")},
            "add_bos_token": _FLAG,
            "add_eos_token": _FLAG,
            "vocab_size": COUNT,
            "model_max_length": COUNT,
            "chat_template": {**TEXT, "description": "Jinja."},
        }
    ),
    "RenderedPrompt": object_of({"prompt": TEXT}),
    "InputTokens": object_of({"object": {"const": "response.input_tokens"}, "input_tokens": COUNT}),
    "RenderedRequest": object_of(
        {
            "request_id": TEXT,
            "model": TEXT,
            "token_ids": IDS,
            "sampling_params": {"type": "object", "description": "What the tokens would be chosen by."},
            "stream": _FLAG,
        }
    ),
    "Embeddings": object_of(
        {
            "object": {"const": "list"},
            "model": TEXT,
            "data": list_of(
                object_of({"object": {"const": "embedding"}, "index": COUNT, "embedding": _EMBEDDING})
            ),
            "usage": object_of({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "EmbeddingList": list_of(object_of({"index": COUNT, "embedding": list_of(_VECTOR)})),
    "ModelList": object_of({"object": {"const": "list"}, "data": list_of(ref("Model"))}),
    "Model": object_of(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": COUNT,
            "owned_by": TEXT,
            "aliases": list_of(TEXT),
            "max_model_len": {**COUNT, "description": "Tokens of a request, prompt and answer."},
            "context_length": {**COUNT, "description": "The same."},
            "capabilities": {
                **list_of({"enum": ["completion", "embedding", "insert", "tools", "thinking"]}),
                "description": "In Ollama's words.",
            },
            "architecture": object_of(
                {"input_modalities": list_of(TEXT), "output_modalities": list_of(TEXT)}
            ),
            "meta": object_of(dict.fromkeys(("n_ctx_train", "n_vocab", "n_embd", "n_params", "size"), COUNT)),
        }
    ),
    "Props": object_of(
        {
            "default_generation_settings": object_of(
                {"n_ctx": COUNT, "speculative": _FLAG, "is_processing": _FLAG, "params": {"type": "object"}}
            ),
            "total_slots": {**COUNT, "description": "Requests that run at once."},
            "model_alias": TEXT,
            "model_path": {**TEXT, "description": "The model's id: paths are not told."},
            "modalities": object_of({"vision": _FLAG, "audio": _FLAG}),
            "chat_template": TEXT,
            "bos_token": TEXT,
            "eos_token": TEXT,
            "build_info": TEXT,
            "is_sleeping": _FLAG,
        }
    ),
    "Slots": list_of(object_of({"id": COUNT, "n_ctx": COUNT, "speculative": _FLAG, "is_processing": _FLAG})),
    "Status": object_of({"status": TEXT}),
    "Version": object_of({"version": TEXT}),
    "About": object_of(
        {
            "name": TEXT,
            "version": TEXT,
            "model": TEXT,
            "base_path": TEXT,
            "routes": list_of(TEXT),
            "documentation": TEXT,
        }
    ),
}
