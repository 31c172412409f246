"""Requests into the rows that a backend chooses by: the one place that knows both sides' names."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.guides.masks import fill_mask
from engine.penalties import KeptChanges, changes_logits
from engine.request import Request
from engine.types import SamplingParams
from kernels.batches import Array
from kernels.choice_row import CHANGE, CHOICE_ROW, Choices, as_ints, order_of, rate_of
from kernels.ops import Ops


class TokenIds(NamedTuple):
    """What a choice has to know of a model's vocabulary."""

    n_vocab: int
    end_ids: frozenset[int]  # those that end an answer

    @property
    def n_words(self) -> int:
        """Of a row of a mask."""
        return -(-self.n_vocab // 32)


class RequestRows(NamedTuple):
    """A step's rows on the host: what `Choices` says of each field."""

    rows: np.ndarray  # CHOICE_ROW [n_rows]
    starts: np.ndarray  # int32 [n_rows + 1]
    mask: np.ndarray | None  # int32 [n_rows, ceil(n_vocab / 32)]; None: every row allows every token
    changes: np.ndarray | None  # CHANGE [n_changes], perhaps none yet; None: no row can have any
    gives_logprobs: bool

    def padded(self, n_rows: int) -> "RequestRows":
        """With greedy rows up to n_rows."""
        n_more = n_rows - len(self.rows)
        if n_more == 0:
            return self
        mask = None if self.mask is None else np.pad(self.mask, ((0, n_more), (0, 0)))
        rows, starts = np.pad(self.rows, (0, n_more)), np.pad(self.starts, (0, n_more), mode="edge")
        return self._replace(rows=rows, starts=starts, mask=mask)

    def on(self, ops: Ops, token_ids: Array) -> Choices:
        """On the backend. token_ids: of the pass.

        Changes come last: they may be any number, as no array that a recorded pass reads comes after them.
        """
        rows, starts = ops.index_array(as_ints(self.rows)), ops.index_array(self.starts)
        mask = None if self.mask is None else ops.index_array(self.mask)
        changes = None if self.changes is None else ops.index_array(as_ints(self.changes))
        return Choices(rows, starts, token_ids, mask, changes, self.gives_logprobs)


class KeptRow:
    """What stays the same of one request's row from step to step, worked out once."""

    def __init__(self, request: Request, tokens: TokenIds) -> None:
        params = request.params
        record = np.zeros(1, CHOICE_ROW)
        _fill(record[0], params)
        record["seed"] = request.seed
        record["has_mask"] = params.allowed_token_ids is not None or request.guide is not None
        self.record: bytes = record.tobytes()
        end_ids = tokens.end_ids | params.stop_token_ids
        self.changes = KeptChanges(request, end_ids) if changes_logits(params) else None
        ids = params.allowed_token_ids
        self.mask = None if ids is None else _mask_of(sorted(ids), tokens.n_vocab)
        self.gives_logprobs = params.logprobs is not None

    def mask_of(self, request: Request, n_words: int) -> np.ndarray | None:
        """The ids that the request allows, at all and now; a guide's mask is used up."""
        if request.guide is None:
            return self.mask
        fill_mask(request, n_words)
        guided: np.ndarray = request.mask
        request.mask = None
        return guided if self.mask is None else guided & self.mask


def rows_of(
    requests: Sequence[Request],
    tokens: TokenIds,
    n_unread: int = 0,
    drafts: Sequence[Sequence[int]] | None = None,
) -> RequestRows:
    """A row for each request, and one more after each of its drafts.

    n_unread: tokens, 0 or 1, that each request has by then and that nobody has read.
    """
    prefixes: list[tuple[Request, Sequence[int]]] = [(request, ()) for request in requests]
    if drafts is not None and any(drafts):
        pairs = zip(requests, drafts, strict=True)
        prefixes = [(request, guesses[:n]) for request, guesses in pairs for n in range(len(guesses) + 1)]
    kept = [_kept(request, tokens) for request, _ in prefixes]
    rows = np.frombuffer(bytearray(b"".join([row.record for row in kept])), CHOICE_ROW)
    rows["position"] = [len(request.token_ids) + len(guesses) + n_unread for request, guesses in prefixes]
    if n_unread:
        rows["n_unread"] = n_unread
    mask = _masks_of([request for request, _ in prefixes], kept, tokens.n_words)
    starts, changes = _changes_of(prefixes, kept, n_unread)
    return RequestRows(rows, starts, mask, changes, any(row.gives_logprobs for row in kept))


def rows_of_targets(targets: Sequence[int], n_top: int, tokens: TokenIds) -> RequestRows:
    """Rows that choose the given tokens, and give their log-probabilities and those of the n_top most likely."""
    rows = np.zeros(len(targets), CHOICE_ROW)
    rows["has_mask"], rows["wants_logprob"], rows["n_top_logprobs"] = 1, 1, n_top
    mask = np.stack([_mask_of([token_id], tokens.n_vocab) for token_id in targets])
    return RequestRows(rows, np.zeros(len(targets) + 1, np.int32), mask, None, gives_logprobs=True)


def _kept(request: Request, tokens: TokenIds) -> KeptRow:
    if request.kept_row is None:
        request.kept_row = KeptRow(request, tokens)
    kept: KeptRow = request.kept_row
    return kept


def _masks_of(requests: Sequence[Request], kept: Sequence[KeptRow], n_words: int) -> np.ndarray | None:
    """`RequestRows.mask`. A guided request has no drafts, so its mask is for one row."""
    masks = [row.mask_of(request, n_words) for request, row in zip(requests, kept, strict=True)]
    if all(mask is None for mask in masks):
        return None
    words = np.zeros((len(kept), n_words), np.int32)
    for own, mask in zip(words, masks, strict=True):
        if mask is not None:
            own[:] = mask
    return words


def _changes_of(
    prefixes: Sequence[tuple[Request, Sequence[int]]], kept: Sequence[KeptRow], n_unread: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """starts and changes of `RequestRows`."""
    starts = np.zeros(len(kept) + 1, np.int32)
    if not any(row.changes is not None for row in kept):
        return starts, None
    parts = [
        np.empty(0, CHANGE) if row.changes is None else row.changes.after(request, guesses, n_unread)
        for (request, guesses), row in zip(prefixes, kept, strict=True)
    ]
    np.cumsum([len(part) for part in parts], out=starts[1:])
    # As numbers: NumPy copies records field by field, which takes ten times as long.
    return starts, np.concatenate([part.view(np.int32) for part in parts]).view(CHANGE)


def _fill(row: np.void, params: SamplingParams) -> None:
    row["repetition_penalty"] = params.repetition_penalty
    row["frequency_penalty"], row["presence_penalty"] = params.frequency_penalty, params.presence_penalty
    row["wants_logprob"], row["n_top_logprobs"] = params.logprobs is not None, params.logprobs or 0
    if params.temperature:
        row["temperature"], row["rate"] = params.temperature, rate_of(params.temperature)
        row["floor"] = math.log(params.min_p) if params.min_p > 0 else -math.inf
        row["top_k"], row["top_p"] = max(params.top_k, 0), params.top_p
        row["order"] = order_of(params.sampler_order)


def _mask_of(ids: Sequence[int], n_vocab: int) -> np.ndarray:
    """int32 [ceil(n_vocab / 32)]: bit t % 32 of word t / 32 is set where t is one of ids."""
    allowed = np.zeros(-(-n_vocab // 32) * 32, np.uint8)
    allowed[list(ids)] = 1
    return np.packbits(allowed, bitorder="little").view(np.int32)
