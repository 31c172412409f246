"""Forms to guides. A form is checked for its size, tried in a process of its own, compiled, and kept for the next
request that asks for the same.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Collection
from functools import cached_property
from typing import NamedTuple

from llguidance import LLMatcher

from engine.constraints.grammars import grammar_of
from engine.constraints.guide import ConstraintGuide
from engine.constraints.judge import Judge
from engine.constraints.judge_process import END_ID
from engine.constraints.limits import parser_limits
from engine.constraints.schema_checks import place_of
from engine.constraints.spec import ConstraintSpec, invalid
from engine.constraints.vocabulary import LeadingSpace, guided_vocabulary, leading_space
from engine.errors import RequestError
from engine.guides.guide import Guide
from engine.text.tokenizer import Tokenizer

MAX_KEPT = 256  # forms
MAX_KEPT_BYTES = 256 << 20  # that they took when they were compiled
_UNSUPPORTED = re.compile(r"Unimplemented keys: \[\"(\w+)\"")
# The judge's vocabulary is small: a token that a grammar names by its id is its last one there.
_TOKEN, _ANY_TOKEN = re.compile(r"<\[\d+\]>"), f"<[{END_ID}]>"
_PLACE = re.compile(r"^at \d+\(\d+\): ")  # in the grammar that we have written
_QUOTED = re.compile(r"\"[^\"]*\"|`[^`]*`|'[^']*'|/.*/")


class Constraint:
    """A compiled form."""

    def __init__(self, matcher: LLMatcher, n_words: int, space: LeadingSpace | None) -> None:
        self._matcher = matcher
        self._n_words = n_words
        self._space = space

    def guide(self, *, hides_space: bool = False) -> Guide:
        """A fresh one, for one answer. hides_space: a space in front of the answer is not shown to the client."""
        space = self._space if hides_space else None
        return ConstraintGuide(self._matcher.deep_copy(), self._n_words, space)


class _Kept(NamedTuple):
    constraint: Constraint
    memory_bytes: int


class Compiler:
    """Of one model. Every method may be called from several threads at once."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int]) -> None:
        """Holds the interpreter's lock for 0.8 s with 128 000 tokens, so it belongs into the time of loading."""
        self._tokenizer = tokenizer
        self._vocabulary = guided_vocabulary(tokenizer, end_ids)
        self._n_words = -(-tokenizer.n_vocab // 32)
        self._judge = Judge()
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # by grammar, the one used last at the end

    def compile(self, spec: ConstraintSpec, cancelled: threading.Event | None = None) -> Constraint:
        """Raises RequestError with code invalid_constraint and the part as param, QueueFullError when too many forms
        wait. cancelled: set when nobody waits for it any more."""
        grammar = grammar_of(spec)
        known = self._known(grammar)
        if known is not None:
            return known
        verdict = self._judge.verdict(_TOKEN.sub(_ANY_TOKEN, grammar), cancelled)
        if verdict.error is not None:
            raise _refusal(spec, verdict.error)
        constraint = self._compiled(spec, grammar)
        self._keep(grammar, _Kept(constraint, verdict.memory_bytes))
        return constraint

    def _compiled(self, spec: ConstraintSpec, grammar: str) -> Constraint:
        matcher = LLMatcher(self._vocabulary, grammar, limits=parser_limits(), log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first step, with the limits of a step
        if matcher.is_error():
            raise _refusal(spec, matcher.get_error())
        return Constraint(matcher, self._n_words, self._space)

    @cached_property
    def _space(self) -> LeadingSpace | None:
        return leading_space(self._tokenizer) if self._tokenizer.add_space_prefix else None

    def _known(self, grammar: str) -> Constraint | None:
        with self._lock:
            kept = self._kept.get(grammar)
            if kept is None:
                return None
            self._kept.move_to_end(grammar)
            return kept.constraint

    def _keep(self, grammar: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[grammar] = kept
            while len(self._kept) > MAX_KEPT or self._kept_bytes() > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(kept.memory_bytes for kept in self._kept.values())


def _refusal(spec: ConstraintSpec, error: str) -> RequestError:
    """The compiler's words without the client's text, at the part that they are about."""
    unsupported = _UNSUPPORTED.search(error)
    if unsupported and spec.kind == "json_schema":
        keyword = unsupported[1]
        place = place_of(spec.value, spec.param, keyword)
        return invalid(place, "is a keyword that answers cannot be guided by; leave it out")
    if error.startswith(("takes ", "needs ", "cannot ")):
        return invalid(spec.param, error)
    for start, keyword, message in _KNOWN:
        if start in error:
            place = place_of(spec.value, spec.param, keyword) if spec.kind == "json_schema" else spec.param
            return invalid(place, message)
    return invalid(spec.param, f"cannot be compiled: {_reason(error)}")


_KNOWN = (
    (
        "oneOf constraints",
        "oneOf",
        "has alternatives that one answer may match together; anyOf works, or a const that tells them apart",
    ),
    ("Unknown format", "format", "is a format that is not known here; leave it out, or send a pattern"),
    ("NoExtension", "", "allows no answer at all"),
    ("oo many", "", "is too ambiguous, or has too many parts, to be followed"),
    ("too big", "", "is too large to be compiled"),
    ("too large", "", "is too large to be compiled"),
)


def _reason(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    told = next(
        (line for line in lines if line.startswith("error:")), lines[0] if lines else "no reason given"
    )
    plain = _PLACE.sub("", told.removeprefix("error:").strip())
    return _QUOTED.sub("...", plain.removeprefix("failed to compile JSON schema: "))[:200]
