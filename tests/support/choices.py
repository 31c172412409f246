"""Choices for tests: requests and their logits through one backend's `choose`, and random ones over all samplers."""

from collections.abc import Sequence

import numpy as np

from engine.choice_rows import TokenIds, rows_of
from engine.choosing import Sampled, sampled_tokens
from engine.request import Request
from kernels.ops import Ops
from kernels.reference.ops import ReferenceOps
from support.sequences import on

REFERENCE = ReferenceOps()


def choose_tokens(
    ops: Ops,
    logits: np.ndarray,
    requests: Sequence[Request],
    unread: np.ndarray | None = None,
    end_ids: Sequence[int] = (),
) -> list[Sampled]:
    """A token for each row of logits [n_rows, n_vocab]. unread: a token of each request that nobody has read."""
    ops.begin_step()
    n_unread = 0 if unread is None else 1
    token_ids = ops.index_array(np.zeros(len(requests), np.int32) if unread is None else unread)
    tokens = TokenIds(logits.shape[1], frozenset(end_ids))
    choices = rows_of(requests, tokens, n_unread).on(ops, token_ids)
    return sampled_tokens(ops.fetch_chosen(ops.choose(on(ops, logits), choices), len(requests))(), requests)


def sample(logits: np.ndarray, requests: Sequence[Request], end_ids: Sequence[int] = ()) -> list[Sampled]:
    """What the judge chooses."""
    return choose_tokens(REFERENCE, logits, requests, end_ids=end_ids)
