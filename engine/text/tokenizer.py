"""Text to token ids and back, for the vocabulary a GGUF file carries.

What is special is found first and never inside plain text: control tokens only where `parse_special` says
that the text is a template's, user-defined tokens everywhere. The runs between are the encoder's (spm.py,
bpe.py).

What is not done, so that texts come back as they were: Hugging Face's clean-up of spaces before punctuation
(clean_up_tokenization_spaces), which GGUF has no key for, and Unicode normalization.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any, Protocol

from engine.errors import ModelFileError, RequestError
from engine.text.bpe import BpeEncoder, find_pre_tokenizer
from engine.text.fill_middle import FillMiddle, find_fill_middle
from engine.text.keys import PREFIX, flag
from engine.text.special_ids import require_id
from engine.text.special_tokens import TokenMatcher
from engine.text.spm import SpmEncoder
from engine.text.token_kind import SPECIAL_KINDS, TokenKind
from engine.text.token_list import TokenList
from engine.text.vocabulary import Vocabulary, read_merges, read_vocabulary

#: Tokens that are found in a text as a whole: plain text after one begins a stretch of its own.
_WHOLE_KINDS = (*SPECIAL_KINDS, TokenKind.USER_DEFINED)


class TextEncoder(Protocol):
    """What differs between the kinds of vocabularies."""

    space: str  # how the vocabulary writes a space; `encode` takes texts that are written so
    boundary: re.Pattern[str]  # one character that a text may be cut before: its parts' ids are the text's

    def encode(self, text: str) -> list[int]:
        """Token ids of a text without special tokens."""

    def bytes_of(self, text: str, kind: TokenKind) -> bytes:
        """What a normal, user-defined or unused token of that text adds to a decoded one."""


def load_tokenizer(metadata: Mapping[str, Any]) -> "Tokenizer":
    """The tokenizer of a GGUF file's metadata. Raises ModelFileError naming the key that is wrong."""
    model = metadata.get(PREFIX + "model")
    if not isinstance(model, str) or model not in TOKENIZER_MODELS:
        found = "is missing" if model is None else f"is {ascii(model)[:40]}"
        raise ModelFileError(f"{PREFIX}model {found}; known tokenizer models: {', '.join(TOKENIZER_MODELS)}")
    tokenizer = TOKENIZER_MODELS[model].load(metadata)
    tokenizer.fill_middle = find_fill_middle(metadata, tokenizer.vocabulary)
    return tokenizer


def _load_spm(metadata: Mapping[str, Any]) -> "Tokenizer":
    vocabulary = read_vocabulary(metadata, scored=True)
    return Tokenizer(
        vocabulary,
        SpmEncoder(vocabulary),
        add_bos=_adds(metadata, "bos", vocabulary, True),
        add_eos=_adds(metadata, "eos", vocabulary, False),
        add_space_prefix=flag(metadata, "add_space_prefix", True),
        collapse_spaces=flag(metadata, "remove_extra_whitespaces", False),
        notes=vocabulary.notes,
    )


def _load_bpe(metadata: Mapping[str, Any]) -> "Tokenizer":
    """add_space_prefix and remove_extra_whitespaces speak of SentencePiece's normalizer; BPE has none."""
    family = find_pre_tokenizer(metadata)
    vocabulary = read_vocabulary(metadata, scored=False)
    by_rank = family.ranked and PREFIX + "merges" not in metadata
    encoder = BpeEncoder(vocabulary, None if by_rank else read_merges(metadata), family)
    return Tokenizer(
        vocabulary,
        encoder,
        add_bos=_adds(metadata, "bos", vocabulary, family.add_bos),
        add_eos=_adds(metadata, "eos", vocabulary, False),
        notes=(*vocabulary.notes, *_bpe_notes(metadata, encoder)),
    )


@dataclass(frozen=True)
class TokenizerModel:
    """One kind of vocabulary."""

    description: str
    load: Callable[[Mapping[str, Any]], "Tokenizer"]


#: tokenizer.ggml.model -> what it is and how such a vocabulary is read.
TOKENIZER_MODELS = {
    "llama": TokenizerModel(
        "SentencePiece BPE (SPM): scored tokens, single bytes where none fits", _load_spm
    ),
    "gpt2": TokenizerModel("byte-level BPE: ranked merges inside the pieces that `pre` cuts", _load_bpe),
}


def _adds(metadata: Mapping[str, Any], name: str, vocabulary: Vocabulary, default: bool) -> bool:
    """Whether texts get BOS in front, EOS at the end. Raises ModelFileError if they do and there is none."""
    adds = flag(metadata, f"add_{name}_token", default)
    if adds:
        token_id = vocabulary.bos_id if name == "bos" else vocabulary.eos_id
        require_id(metadata, name, token_id, len(vocabulary.texts))
    return adds


def _bpe_notes(metadata: Mapping[str, Any], encoder: BpeEncoder) -> tuple[str, ...]:
    notes = []
    if PREFIX + "pre" not in metadata:
        notes.append(
            f"{PREFIX}pre is missing: texts are cut by the default rules, as llama.cpp does; a file converted "
            "anew names the model's own"
        )
    if encoder.missing_bytes:
        found = encoder.missing_bytes.hex(" ")
        notes.append(f"the vocabulary has no tokens for the bytes {found}; in prompts they are left out")
    return tuple(notes)


class Tokenizer:
    """Immutable after load; every method may be called from several threads at once."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: TextEncoder,
        *,
        add_bos: bool,
        add_eos: bool,
        add_space_prefix: bool = False,
        collapse_spaces: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        """notes: one-line remarks for the person who started the server."""
        self.vocabulary = vocabulary
        self.n_vocab = len(vocabulary.texts)
        self.bos_id = vocabulary.bos_id
        self.eos_ids = vocabulary.end_ids
        self.add_bos = add_bos
        self.add_eos = add_eos
        self.add_space_prefix = add_space_prefix
        self._collapse_spaces = collapse_spaces
        self.notes = notes
        self.fill_middle: FillMiddle | None = None  # for models that were trained to fill in a text's middle
        self._encoder = encoder
        self._bytes: dict[int, bytes] = {}  # by token id, of those that were asked for
        self._longest = max(map(len, [*vocabulary.texts, "a"]))  # characters in a token's text
        # A control token of one character is never read in a text: no mark could break a user's (guard.py).
        self.control = self._matcher(SPECIAL_KINDS, shortest=2)
        self._user_defined = self._matcher((TokenKind.USER_DEFINED,), shortest=1)

    def encode(
        self,
        text: str,
        *,
        add_special: bool,
        parse_special: bool,
        guard: str = "",
        limit: int | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[int]:
        """Token ids of a text.

        add_special: BOS in front and EOS at the end, where the model adds them and the text does not spell them.
        parse_special: control tokens spelled in the text become those tokens. guard: a character that is dropped
        from plain text, but only after the search for control tokens, so that it keeps what stands around it
        from being one (guard.py). limit: tokens of the context; cancelled: set by another thread (token_list.py).
        Raises RequestError for a lone surrogate, which no encoding can carry, and when cancelled;
        ContextLengthError as soon as the text has `limit` tokens.
        """
        text = self._normalized(text)
        tokens = TokenList(limit, cancelled)
        after_special = True
        for part in self.control.split(text) if parse_special else (text,):
            if isinstance(part, int):
                tokens.append(part)
                after_special = True
            elif plain := part.replace(guard, "") if guard else part:
                self._append_plain(plain, after_special, tokens)
                after_special = False
        return self._with_ends(tokens.ids) if add_special else tokens.ids

    def _with_ends(self, token_ids: list[int]) -> list[int]:
        """BOS in front and EOS at the end, where the model adds them and the text has not spelled them itself."""
        bos = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        eos_id = self.vocabulary.eos_id
        eos = [eos_id] if self.add_eos and eos_id is not None else []
        return [*(bos if token_ids[:1] != bos else []), *token_ids, *(eos if token_ids[-1:] != eos else [])]

    def _append_plain(self, text: str, after_special: bool, tokens: TokenList) -> None:
        """A run without control tokens. A stretch after a special token, or at the start, gets the prefix."""
        encoder = self._encoder
        for part in self._user_defined.split(text):
            if isinstance(part, int):
                tokens.append(part)
            else:
                prefix = encoder.space if self.add_space_prefix and after_special else ""
                tokens.encode(prefix + part, encoder.encode, encoder.boundary)
            after_special = isinstance(part, int)

    def least_tokens(self, n_characters: int) -> int:
        """A lower bound of the tokens of so many characters: refuses the hopelessly long at once."""
        return 0 if self._collapse_spaces else -(-n_characters // self._longest)

    def _normalized(self, text: str) -> str:
        _require_unicode(text)
        if self._collapse_spaces:
            text = re.sub(" +", " ", text).strip(" ")
        return text.replace(" ", self._encoder.space)

    def decode(self, token_ids: Iterable[int]) -> str:
        """The whole text. The space that encoding put in front is taken away again; bad bytes read U+FFFD."""
        ids = list(dropwhile(self.is_control, token_ids))
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return (
            text.removeprefix(" ") if self.add_space_prefix and ids and not self._is_whole(ids[0]) else text
        )

    def spelled(self, token_ids: Iterable[int]) -> str:
        """The text that has these ids: `encode`'s inverse, control tokens as they are spelled; bad bytes read U+FFFD.

        Raises IndexError.
        """
        parts: list[bytes] = []
        begins_stretch = True  # the next plain token has the space in front that encoding put there
        for token_id in token_ids:
            data = self.spelled_bytes(token_id)
            is_plain = self.vocabulary.kinds[token_id] not in _WHOLE_KINDS
            drops = self.add_space_prefix and begins_stretch and is_plain
            parts.append(data.removeprefix(b" ") if drops else data)
            begins_stretch = not is_plain
        return b"".join(parts).decode("utf-8", "replace")

    def spelled_bytes(self, token_id: int) -> bytes:
        """What the token is in a text; control and unknown tokens as they are spelled. Raises IndexError."""
        if self.vocabulary.kinds[token_id] in (TokenKind.CONTROL, TokenKind.UNKNOWN):
            return self.piece(token_id).encode("utf-8")
        return self.token_bytes(token_id)

    def special_texts(self) -> dict[str, str | None]:
        """bos_token, eos_token, unk_token and pad_token as the vocabulary spells them; None for what it has not."""
        vocabulary = self.vocabulary
        ids = {"bos": vocabulary.bos_id, "eos": vocabulary.eos_id, "unk": vocabulary.unk_id}
        ids["pad"] = vocabulary.pad_id
        return {f"{name}_token": None if i is None else vocabulary.texts[i] for name, i in ids.items()}

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text: nothing for control and unknown tokens. Raises IndexError."""
        known = self._bytes.get(token_id)
        if known is None:
            kinds, texts = self.vocabulary.kinds, self.vocabulary.texts
            known = self._bytes[token_id] = self._bytes_of(texts[token_id], kinds[token_id])
        return known

    def adds_space_after(self, token_id: int) -> bool:
        """Whether text that follows this token is encoded with a space in front, which decoding takes away."""
        return self.add_space_prefix and self.vocabulary.kinds[token_id] in SPECIAL_KINDS

    def control_tokens_in(self, texts: Iterable[str]) -> dict[int, str]:
        """The control tokens that are spelled in some of the texts, as they are spelled there."""
        return {i: spelled for text in texts for i, spelled in self.control.found(text) if self.is_control(i)}

    def is_control(self, token_id: int) -> bool:
        return self.vocabulary.kinds[token_id] is TokenKind.CONTROL

    def piece(self, token_id: int) -> str:
        """The token as the vocabulary spells it."""
        return self.vocabulary.texts[token_id]

    def _is_whole(self, token_id: int) -> bool:
        return self.vocabulary.kinds[token_id] is TokenKind.USER_DEFINED

    def _matcher(self, kinds: tuple[TokenKind, ...], shortest: int) -> TokenMatcher:
        texts = self.vocabulary.texts
        of_kind = (i for i, k in enumerate(self.vocabulary.kinds) if k in kinds and len(texts[i]) >= shortest)
        return TokenMatcher({texts[i]: i for i in of_kind}, self._encoder.space)

    def _bytes_of(self, text: str, kind: TokenKind) -> bytes:
        if kind in (TokenKind.CONTROL, TokenKind.UNKNOWN):
            return b""
        if kind is TokenKind.BYTE:
            return bytes.fromhex(text[3:5])  # <0x41>
        return self._encoder.bytes_of(text, kind)


def _require_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the text has a lone surrogate at character {error.start}; it is not Unicode text"
        ) from error
