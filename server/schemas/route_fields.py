"""Fields of the routes beside the completions: each has a table of its own, read as the common one is."""

from server.schemas.fields import RequestField, Table
from server.schemas.openai_fields import honoured
from server.schemas.values import BOOLEAN, MESSAGES, TEXT, token_list

TOKENIZE, DETOKENIZE = "tokenize", "detokenize"
MAX_TOKENS = 1 << 20  # of a text that is only looked at, and so may be longer than the context

_MODEL = "The served model; without it, the one that is served."


def _on(route: str, *fields: RequestField) -> Table:
    return Table(tuple(field.on(route) for field in fields))


TOKENIZE_FIELDS = _on(
    TOKENIZE,
    honoured("model", _MODEL, kind=TEXT),
    honoured("prompt", "The text, with BOS where the model adds it.", kind=TEXT),
    honoured("content", "The text, without BOS. llama.cpp's name.", kind=TEXT),
    honoured(
        "messages",
        "A chat, rendered as `/v1/chat/completions` does, whose other fields of the prompt are taken too.",
        kind=MESSAGES,
    ),
    honoured(
        "add_special add_special_tokens",
        "BOS in front of a text and EOS at its end, where the model adds them; a chat's are its template's.",
        kind=BOOLEAN,
    ),
    honoured(
        "parse_special",
        "Control tokens spelled in a text are those tokens; the default is true.",
        kind=BOOLEAN,
    ),
    honoured("with_pieces", "Each token as its id and its piece of the text.", kind=BOOLEAN),
    honoured("return_token_strs", "`token_strs`: the tokens as the vocabulary has them.", kind=BOOLEAN),
)

DETOKENIZE_FIELDS = _on(
    DETOKENIZE,
    honoured("model", _MODEL, kind=TEXT),
    honoured("tokens", "Token ids.", kind=token_list(MAX_TOKENS), required=True),
)
