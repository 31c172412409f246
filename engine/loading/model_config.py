"""A model's hyperparameters, from GGUF metadata: its architecture reads its keys, and the others are looked at."""

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.file_kinds import refuse_other_kinds
from engine.loading.gguf_file import GGUFFile
from engine.loading.unread_keys import refuse_unread
from engine.metadata_reader import MetadataReader
from engine.models import ARCHITECTURES
from engine.models.config import ModelConfig


def read_config(gguf: GGUFFile) -> ModelConfig:
    """Raises ModelFileError naming the key and its value, and for an architecture the known ones."""
    refuse_other_kinds(gguf)
    name = gguf.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        found = "is missing" if name is None else f"is {shown(str(name))}"
        known = ", ".join(ARCHITECTURES)
        raise ModelFileError(f"{gguf.path}: key 'general.architecture' {found}; this build knows {known}")
    keys = MetadataReader(gguf.path, gguf.metadata, f"{name}.", _n_tokens(gguf))
    config = ARCHITECTURES[name].read_config(keys)
    refuse_unread(keys)
    return config


def _n_tokens(gguf: GGUFFile) -> int | None:
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    embd = gguf.tensors.get("token_embd.weight")
    return len(tokens) if isinstance(tokens, list | np.ndarray) else embd.shape[-1] if embd else None
