"""Train the demo model: python -m tools.demo.train [--steps N] [--out FOLDER]. Needs the `train` extra.

Writes FOLDER/weights.pt and FOLDER/log.json (what was trained on what, and every loss); export.py goes on from
there. One thread, since its sums are then the same on every run: the seed decides everything.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.backends import machine_line
from tools.demo.batches import SAID, Encoder
from tools.demo.network import Llama, Shape
from tools.demo.vocabulary import N_VOCAB, train_vocabulary

LOSS_WEIGHTS = (0.0, 0.1, 1.0)  # of padding, questions and answers: the model is judged by its answers
UNSEEN_BATCHES = 4


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, beside the corpus and the network's shape."""

    seed: int = 20251125
    steps: int = 1800
    n_tokens: int = 3072  # in a step
    matrix_rate: float = 4e-3  # of Muon, scaled as AdamW's
    vector_rate: float = 4e-3  # of AdamW: embedding and norms
    weight_decay: float = 0.05
    warmup: int = 40  # steps
    last_rate: float = 0.02  # of the peak, reached at the end
    report_every: int = 25  # steps


def train(recipe: Recipe, out: Path) -> dict[str, Any]:
    """The log, also written into `out` beside the weights."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    metadata = train_vocabulary(recipe.seed)
    encoder = Encoder.from_metadata(metadata)
    model = Llama(Shape(N_VOCAB))
    log: dict[str, Any] = {
        "recipe": asdict(recipe),
        "shape": asdict(model.shape),
        "machine": _machine(),
        "reports": [],
    }
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    for report in _reports(model, encoder, recipe):
        spent = {
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time(), 1),
        }
        log["reports"].append(report | spent)
        _show(log["reports"][-1], recipe.steps)
        torch.save(
            {"metadata": metadata, "shape": asdict(model.shape), "weights": model.state_dict()},
            out / "weights.pt",
        )
        (out / "log.json").write_text(json.dumps(log, indent=1) + "\n")
    return log


def _reports(model: Llama, encoder: Encoder, recipe: Recipe) -> Any:
    """Train, and tell the losses every few steps: of the steps themselves, and of answers never trained on."""
    batches = encoder.batches(recipe.seed, "train", recipe.n_tokens)
    unseen = list(islice(encoder.batches(recipe.seed + 1, "validation", recipe.n_tokens), UNSEEN_BATCHES))
    optimizers, schedules = _optimizers(model, recipe)
    losses: list[float] = []
    for step in range(1, recipe.steps + 1):
        model.train()
        loss = weighted_loss(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(loss.item())
        if step % recipe.report_every == 0 or step == recipe.steps:
            mean, losses = sum(losses) / len(losses), []
            yield {
                "step": step,
                "train_loss": round(mean, 4),
                "answer_loss": round(answer_loss(model, unseen), 4),
            }


def weighted_loss(model: Llama, batch: np.ndarray) -> Tensor:
    """batch [3, n_seqs, n_tokens], see Encoder.batches."""
    losses, part = _losses(model, batch)
    weights = torch.tensor(LOSS_WEIGHTS)[part]
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def answer_loss(model: Llama, batches: list[np.ndarray]) -> float:
    """The mean loss of the answers' tokens, without the noise of training."""
    model.eval()
    said = [losses[part == SAID] for losses, part in (_losses(model, batch) for batch in batches)]
    return torch.cat(said).mean().item()


def _losses(model: Llama, batch: np.ndarray) -> tuple[Tensor, Tensor]:
    """Of every token, and what it is part of. Both [n_seqs * n_tokens]."""
    read, following, part = torch.from_numpy(batch)
    return F.cross_entropy(model(read).flatten(0, 1), following.flatten(), reduction="none"), part.flatten()


def _optimizers(model: Llama, recipe: Recipe) -> tuple[list[Any], list[Any]]:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms."""
    inner = [w for name, w in model.named_parameters() if w.dim() == 2 and name.startswith("blk.")]
    outer = [w for name, w in model.named_parameters() if w.dim() == 1 or not name.startswith("blk.")]
    optimizers = [
        torch.optim.Muon(
            inner, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outer, lr=recipe.vector_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]

    def rate(step: int) -> float:
        left = 1 - step / recipe.steps
        return min((step + 1) / recipe.warmup, recipe.last_rate + (1 - recipe.last_rate) * left)

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]


def _machine() -> str:
    return f"{machine_line()}, Python {platform.python_version()}, torch {torch.__version__}"


def _show(report: dict[str, Any], steps: int) -> None:
    left = report["seconds"] / report["step"] * (steps - report["step"])
    print(
        f"step {report['step']}/{steps}  train {report['train_loss']:.3f}  unseen answers {report['answer_loss']:.3f}"
        f"  {report['seconds']:.0f} s, {left:.0f} s to go",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder for the weights and the log"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    train(replace(Recipe(), steps=arguments.steps, seed=arguments.seed), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
