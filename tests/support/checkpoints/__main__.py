"""`make golden`: for each model of support/architectures a digest of its file and the logits of a few positions."""

import numpy as np

from support.architectures import GOLDEN, MODELS
from support.architectures.random_file import draw_tensors, tensors_digest
from support.checkpoints import Checkpoint
from support.random_models import GOLDEN_POSITIONS, TOKEN_IDS


def write_golden() -> None:
    arrays = {}
    for name, model in MODELS.items():
        tensors = draw_tensors(model)
        logits = Checkpoint(model.metadata, tensors).logits(TOKEN_IDS)[list(GOLDEN_POSITIONS)]
        arrays[name] = logits.astype(np.float32)
        arrays[f"{name}: tensors"] = np.array(tensors_digest(tensors))
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write_golden()
