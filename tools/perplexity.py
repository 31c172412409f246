"""`espalier perplexity`: how surprised a model is by a text, by the peer's definition.

The text is one token stream, cut into whole windows; the first token of a window becomes BOS where the model
adds one; logits at window positions ctx/2 .. ctx - 2 are scored against the next token.
"""

import json as jsonlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import EspalierError, LoadedModel, load_model
from engine.loading.placement import check_experts
from tools.backends import checked_kv_type, checked_trellis, open_backend
from tools.model_runs import SequenceRuns
from tools.progress import progress_bar

Report = Callable[[int, int], None]  # windows done, windows in all
TOKENS_AT_ONCE = 2048  # of several windows in one pass


def _silent(done: int, total: int) -> None:
    pass


class Perplexity(NamedTuple):
    ppl: float
    stderr: float
    chunks: int  # windows
    tokens: int  # scored


def run(
    model: Path,
    text: Path,
    ctx_size: int,
    kv_type: str,
    device: str,
    threads: int | None,
    kt_trellis: str,
    activations: int,
    json: bool,
    attention: str = "exact",
    experts: str = "auto",
) -> None:
    checked_kv_type(kv_type)
    check_experts(experts)
    words = read_text(text)
    ops = open_backend(device, threads, activations, attention)
    with progress_bar(f"loading {model.name}") as report:
        loaded = load_model(model, ops, checked_trellis(kt_trellis), report, experts=experts)
    with progress_bar("perplexity") as report:
        result = measure(loaded, words, ctx_size, report, kv_type)
    print(f"PPL = {result.ppl:.4f} +/- {result.stderr:.5f} over {result.chunks} chunks")
    if json:
        print(jsonlib.dumps(result._asdict()))


def read_text(path: Path) -> str:
    """The file as it is: a CR before a line feed is a token like others. Raises EspalierError."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise EspalierError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise EspalierError(f"{path}: cannot be read as UTF-8 text: wrong at byte {error.start}") from None


def measure(
    loaded: LoadedModel, text: str, ctx_size: int, report: Report = _silent, kv_type: str = "f16"
) -> Perplexity:
    """Raises EspalierError for a window the model was not trained for or a text shorter than one."""
    windows = cut(loaded, text, ctx_size)
    at_once = max(TOKENS_AT_ONCE // ctx_size, 1)
    runs = SequenceRuns(loaded, min(at_once, len(windows)), ctx_size, kv_type)
    losses = []
    for first in range(0, len(windows), at_once):
        batch = windows[first : first + at_once]
        n_scored = ctx_size - ctx_size // 2 - 1
        logits = runs.run(batch[:, :-1].tolist(), 0, n_scored)  # the last token is only predicted
        losses.append(negative_log_likelihoods(logits, batch[:, ctx_size // 2 + 1 :].reshape(-1)))
        report(first + len(batch), len(windows))
    return summarize(np.concatenate(losses), len(windows))


def cut(loaded: LoadedModel, text: str, ctx_size: int) -> np.ndarray:
    """Token ids of the whole windows, [n_windows, ctx_size]."""
    longest = loaded.config.n_ctx_max
    if not 4 <= ctx_size <= longest:
        raise EspalierError(
            f"--ctx-size {ctx_size}: a window has 4 to {longest} tokens, the trained length or sliding window"
        )
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    token_ids = tokenizer.encode(text, add_special=True, parse_special=False)
    n_windows = len(token_ids) // ctx_size
    if n_windows == 0:
        raise EspalierError(f"the text has {len(token_ids)} tokens; one window needs {ctx_size}")
    windows = np.array(token_ids[: n_windows * ctx_size], np.int32).reshape(n_windows, ctx_size)
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        windows[:, 0] = tokenizer.bos_id
    return windows


def negative_log_likelihoods(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log softmax(logits)[target] of each row, in float64. logits [n, n_vocab], targets [n]."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    return np.log(np.exp(values).sum(axis=1)) - values[np.arange(len(targets)), targets]


def summarize(losses: np.ndarray, n_windows: int) -> Perplexity:
    """The standard error is that of the mean loss, carried through the exponential."""
    ppl = math.exp(losses.mean())
    stderr = ppl * math.sqrt(losses.var() / max(len(losses) - 1, 1))
    return Perplexity(ppl, stderr, n_windows, len(losses))
