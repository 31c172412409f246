"""Random choices over all samplers, orders and combinations, and how the answers of two backends to them differ."""

from typing import NamedTuple

import numpy as np

from kernels.choice_row import (
    CHANGE,
    CHOICE_ROW,
    MAX_LOGPROBS,
    NO_BIAS,
    STEPS,
    Choices,
    ChosenTokens,
    as_ints,
    order_of,
    rate_of,
)
from kernels.ops import Ops
from support.sequences import on

#: From one that leaves only the highest logits to one that makes all alike; 0 takes the highest.
TEMPERATURES = (0.0, 0.0, 5e-324, 1e-300, 1e-3, 0.7, 1.0, 1.0, 1.0, 2.0, 1e5, 1e30, 1.1e30, 1e38, 1e308)
#: The edges of what a distribution's mass can be cut at.
TOP_PS = (0.0, 1e-300, 0.1, 0.5, 0.9, 0.999, 1 - 2**-53, 1.0, 1.0, 1.0)
MIN_PS = (0.0, 0.0, 0.0, 1e-9, 0.05, 1.0)


class RandomChoices(NamedTuple):
    """On the host; what `Choices` says of each."""

    logits: np.ndarray
    rows: np.ndarray  # CHOICE_ROW
    starts: np.ndarray
    token_ids: np.ndarray
    mask: np.ndarray
    changes: np.ndarray  # CHANGE


def random_logits(rng: np.random.Generator, n_vocab: int) -> np.ndarray:
    """float32 [n_vocab]: plain ones, ties, zeros of both signs, subnormals, infinities, NaNs, one that is left."""
    x = rng.normal(0, rng.choice([0.01, 1.0, 4.0, 40.0]), n_vocab).astype(np.float32)
    at = rng.integers(0, n_vocab, 3)
    kind = rng.integers(0, 16)
    if kind == 0:
        x = x.round()
    elif kind == 1:
        x[:] = 7.5
    elif kind == 2:
        x = rng.choice(np.array([0.0, -0.0], np.float32), n_vocab)
    elif kind == 3:
        x[:] = -np.inf
        x[at[0]] = -1e30
    elif kind == 4:
        x[at] = rng.choice(np.array([np.inf, np.nan, -np.nan, -np.inf], np.float32), 3)
    elif kind == 5:
        x = rng.choice(np.array([1e-45, -1e-45, 0.0], np.float32), n_vocab)
    elif kind == 6:
        x = rng.choice(np.array([3e38, -3e38, 1.0], np.float32), n_vocab)
    elif kind == 7:
        x[rng.random(n_vocab) < 0.9] = -np.inf
    elif kind == 8:
        x[:] = -np.inf
    elif kind == 9:
        x -= 100
    return x


def random_choices(rng: np.random.Generator, n_rows: int, n_vocab: int) -> RandomChoices:
    rows = np.zeros(n_rows, CHOICE_ROW)
    parts = []
    for row in rows:
        temperature = float(rng.choice(TEMPERATURES))
        row["temperature"], row["rate"] = temperature, rate_of(temperature) if temperature else 0
        with np.errstate(divide="ignore"):
            row["floor"] = np.log(rng.choice(MIN_PS))
        row["top_p"] = rng.choice(TOP_PS)
        row["top_k"] = rng.choice([0, 0, 0, 1, 2, 40, n_vocab // 2, n_vocab - 1, n_vocab, 2**31 - 1])
        row["seed"] = rng.integers(0, 1 << 64, dtype=np.uint64)
        row["position"] = rng.integers(0, 1 << 17)
        row["order"] = order_of(STEPS if rng.random() < 0.5 else rng.permutation(STEPS).tolist())
        row["repetition_penalty"] = rng.choice([1.0, 1.3, 0.5, 10.0])
        row["frequency_penalty"] = rng.choice([0.0, 0.7, -2.0])
        row["presence_penalty"] = rng.choice([0.0, 1.3, -0.4])
        row["n_unread"], row["has_mask"] = rng.random() < 0.3, rng.random() < 0.2
        row["wants_logprob"] = rng.random() < 0.3
        row["n_top_logprobs"] = rng.choice([0, 0, 1, 5, MAX_LOGPROBS])
        parts.append(random_changes(rng, n_vocab))
    mask = rng.integers(-(2**31), 2**31, (n_rows, -(-n_vocab // 32))).astype(np.int32)
    for i in range(0, n_rows, 3):
        mask[i] = rng.choice([0, -1])  # nothing, or everything
        mask[i, int(rng.integers(0, mask.shape[1]))] = rng.choice([0, 1, -1])
    return RandomChoices(
        np.stack([random_logits(rng, n_vocab) for _ in range(n_rows)]),
        rows,
        np.cumsum([0, *map(len, parts)], dtype=np.int32),
        rng.integers(0, n_vocab, n_rows).astype(np.int32),
        mask,
        np.concatenate(parts),
    )


def random_changes(rng: np.random.Generator, n_vocab: int) -> np.ndarray:
    n = int(rng.choice([0, 0, 1, min(30, n_vocab)]))
    changes = np.zeros(n, CHANGE)
    changes["token_id"] = rng.choice(n_vocab, n, replace=False)
    changes["n_answered"], changes["is_seen"] = rng.integers(0, 3, n), rng.integers(0, 2, n)
    changes["bias"] = rng.choice(np.array([NO_BIAS, 0.5, -100, 100, -np.inf], np.float32), n)
    return changes


def chosen_by(ops: Ops, case: RandomChoices) -> ChosenTokens:
    ops.begin_step()
    token_ids = ops.index_array(case.token_ids)
    rows, starts = ops.index_array(as_ints(case.rows)), ops.index_array(case.starts)
    mask, changes = ops.index_array(case.mask), ops.index_array(as_ints(case.changes))
    choices = Choices(rows, starts, token_ids, mask, changes, gives_logprobs=True)
    return ops.fetch_chosen(ops.choose(on(ops, case.logits), choices), len(case.rows))()


def differences(ops: Ops, judge: Ops, case: RandomChoices) -> list[str]:
    """A line for each row that two backends answer differently, be it in the last bit of a log-probability."""
    got, expected = chosen_by(ops, case), chosen_by(judge, case)
    lines = []
    for i in range(len(case.rows)):
        wrong = [
            name
            for name, a, b in zip(ChosenTokens._fields, got, expected, strict=True)
            if not np.array_equal(a[i], b[i], equal_nan=a.dtype == np.float32)
        ]
        if wrong:
            lines.append(f"row {i}: {', '.join(wrong)}: {case.rows[i]}")
    return lines
