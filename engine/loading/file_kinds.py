"""GGUF files that are no language model: named as what they are, with what would work instead.

Every tool around llama.cpp writes GGUF, so a folder of a model often holds adapters, importance matrices and vision
parts beside it. `general.type` names the kind; older files are told by their architecture or by what they hold.
"""

from engine.errors import ModelFileError
from engine.loading.gguf_file import GGUFFile

_KINDS = {  # general.type, or general.architecture of files without it
    "adapter": "a LoRA adapter and not a model; merge it into the model it was trained for (llama-export-lora) "
    "and give the merged file",
    "imatrix": "an importance matrix, which guides a quantizer; give the quantized model",
    "mmproj": "the vision or audio part of a model (mmproj); give the language model's own file, which answers text",
    "clip": "the vision or audio part of a model (mmproj); give the language model's own file, which answers text",
    "controlvector": "a control vector and not a model; give the model that it steers",
    "mtp": "only a model's layer for predicting further tokens (MTP); give the model's own file",
    "vocab": "a vocabulary without a model; give the file that has the weights too",
}


def refuse_other_kinds(gguf: GGUFFile) -> None:
    """Raises ModelFileError for a file that is known to be something else than a model's weights."""
    kind = _kind(gguf)
    if kind is not None:
        raise ModelFileError(f"{gguf.path}: is {_KINDS[kind]}")


def _kind(gguf: GGUFFile) -> str | None:
    for key in ("general.type", "general.architecture"):
        value = gguf.metadata.get(key)
        if isinstance(value, str) and value in _KINDS:
            return value
    if any(name.endswith((".lora_a", ".lora_b")) for name in gguf.tensors):
        return "adapter"
    if "blk.0.attn_norm.weight" not in gguf.tensors and any(".nextn." in name for name in gguf.tensors):
        return "mtp"
    if not gguf.tensors and "tokenizer.ggml.tokens" in gguf.metadata:
        return "vocab"
    return None
