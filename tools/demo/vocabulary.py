"""The demo's own SPM vocabulary: trained on the corpus, and written as the metadata of a GGUF file."""

import io
import itertools
from typing import Any

from engine.text.keys import PREFIX
from engine.text.token_kind import TokenKind
from tools.demo.corpus import conversations

N_VOCAB = 2048  # 256 bytes, 6 special tokens, the rest pieces of the corpus
N_CONVERSATIONS = 20000  # read for the pieces
END = "<|end|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}<|system|>"
    "{%- elif message.role == 'assistant' -%}<|assistant|>"
    "{%- else -%}<|user|>{%- endif -%}"
    "{{ message.content | trim }}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def train_vocabulary(seed: int) -> dict[str, Any]:
    """The tokenizer's metadata, chat template included. Needs the sentencepiece package; the same for one seed."""
    import sentencepiece

    drawn = itertools.islice(conversations(seed, "train"), N_CONVERSATIONS)
    texts = (message["content"] for messages in drawn for message in messages)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        model_type="bpe",
        vocab_size=N_VOCAB,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        control_symbols=ROLES,
        eos_piece=END,
        num_threads=1,
        minloglevel=1,
    )
    return _metadata(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()))


def _metadata(pieces: Any) -> dict[str, Any]:
    ids = range(pieces.get_piece_size())
    return {
        PREFIX + "model": "llama",
        PREFIX + "tokens": [pieces.id_to_piece(i) for i in ids],
        PREFIX + "scores": [float(pieces.get_score(i)) for i in ids],
        PREFIX + "token_type": [int(_kind(pieces, i)) for i in ids],
        PREFIX + "bos_token_id": pieces.bos_id(),
        PREFIX + "eos_token_id": pieces.eos_id(),
        PREFIX + "unknown_token_id": pieces.unk_id(),
        PREFIX + "add_bos_token": True,
        PREFIX + "add_eos_token": False,
        PREFIX + "add_space_prefix": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _kind(pieces: Any, token_id: int) -> TokenKind:
    if pieces.is_unknown(token_id):
        return TokenKind.UNKNOWN
    if pieces.is_control(token_id):
        return TokenKind.CONTROL
    return TokenKind.BYTE if pieces.is_byte(token_id) else TokenKind.NORMAL
