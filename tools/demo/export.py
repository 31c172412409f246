"""From trained weights to GGUF files: python -m tools.demo.export [--weights FOLDER] [--out FILE]. Needs torch.

Writes the model twice: FOLDER/espalier-demo-F16.gguf to compare with, and FILE with every matrix as IQ4_KT and the
embedding as Q8_0. Then it measures both with the engine: the perplexity of unseen answers, the held-out score.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.quantization.gguf_writer import Tensor, write_gguf
from engine.quantization.kt import quantize_iq4_kt
from engine.quantization.legacy import quantize_q8_0
from tools.demo import DEMO_MODEL
from tools.demo.batches import Encoder
from tools.demo.judge import judge
from tools.demo.network import Llama, NoisyLinear, Shape

CALIBRATION_SEED, CALIBRATION_TOKENS = 7, 8192  # training conversations that show how much each input matters
EMBEDDING = "token_embd.weight"
Packer = Callable[[str, np.ndarray], tuple[str, bytes]]  # name and matrix -> type name and bytes


def export(folder: Path, out: Path) -> dict[str, Any]:
    """Both files, and what the engine says of them; also added to FOLDER/log.json."""
    saved = torch.load(folder / "weights.pt", weights_only=True)
    model = Llama(Shape(**saved["shape"]))
    model.load_state_dict(saved["weights"])
    model.eval()
    f16 = folder / "espalier-demo-F16.gguf"
    write_model(f16, model, saved["metadata"], as_f16)
    write_model(out, model, saved["metadata"], QuantizedMatrices(importances(model, saved["metadata"])))
    result = {"f16": judge(f16), "iq4_kt": judge(out)}
    log = json.loads((folder / "log.json").read_text())
    (folder / "log.json").write_text(json.dumps(log | {"judged": result}, indent=1) + "\n")
    return result


def write_model(path: Path, model: Llama, vocabulary: dict[str, Any], pack: Packer) -> None:
    tensors = []
    for name, weight in model.state_dict().items():
        values = weight.float().numpy()
        type_name, data = pack(_gguf_name(name), values) if values.ndim == 2 else ("F32", values.tobytes())
        tensors.append(Tensor(_gguf_name(name), type_name, values.shape[::-1], data))
    write_gguf(path, _metadata(model.shape) | vocabulary, tensors)


def as_f16(name: str, matrix: np.ndarray) -> tuple[str, bytes]:
    return "F16", matrix.astype("<f2").tobytes()


class QuantizedMatrices:
    """Every matrix as IQ4_KT, fitted to the inputs it reads; the embedding, which is also the output, as Q8_0."""

    def __init__(self, importance: dict[str, np.ndarray]) -> None:
        self._importance = importance

    def __call__(self, name: str, matrix: np.ndarray) -> tuple[str, bytes]:
        if name == EMBEDDING:
            return "Q8_0", quantize_q8_0(matrix).tobytes()
        return "IQ4_KT", quantize_iq4_kt(matrix, self._importance[name]).tobytes()


@torch.no_grad()
def importances(model: Llama, vocabulary: dict[str, Any]) -> dict[str, np.ndarray]:
    """The mean square of each input of each matrix of the blocks, over training conversations."""
    means: dict[str, np.ndarray] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, NoisyLinear):

            def keep(_: Any, inputs: tuple[torch.Tensor], name: str = f"{name}.weight") -> None:
                means[name] = inputs[0].square().mean(dim=(0, 1)).numpy()

            hooks.append(module.register_forward_pre_hook(keep))
    batches = Encoder.from_metadata(vocabulary).batches(CALIBRATION_SEED, "train", CALIBRATION_TOKENS)
    model(torch.from_numpy(next(batches)[0]))
    for hook in hooks:
        hook.remove()
    return means


def _gguf_name(name: str) -> str:
    return EMBEDDING if name == "token_embd" else name


def _metadata(shape: Shape) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.name": "Espalier demo",
        "general.description": "A small model that answers questions about Espalier",
        "general.license": "mit",
        "llama.context_length": shape.n_ctx,
        "llama.embedding_length": shape.n_embd,
        "llama.block_count": shape.n_layer,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head,
        "llama.attention.layer_norm_rms_epsilon": shape.rms_eps,
        "llama.rope.freq_base": shape.rope_base,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("build/demo"), help="what train.py wrote")
    parser.add_argument("--out", type=Path, default=DEMO_MODEL)
    arguments = parser.parse_args()
    print(json.dumps(export(arguments.weights, arguments.out), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
