"""The kinds of tokens: how a token is found in a text and what it adds to one."""

from enum import IntEnum


class TokenKind(IntEnum):
    """tokenizer.ggml.token_type, as SentencePiece numbers its pieces; MARKER is ours."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6
    MARKER = 7  # the file calls it text, its template writes it as a turn's mark: parsed as CONTROL is, and printed


FILE_KINDS = {int(kind): kind for kind in TokenKind if kind is not TokenKind.MARKER}
SPECIAL_KINDS = (TokenKind.CONTROL, TokenKind.MARKER)  # only a template, or a raw prompt, may write these
