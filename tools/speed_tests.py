"""Our own pp and tg: forward passes of one sequence, timed, over a model that stays loaded.

pp N: N tokens through the model, logits of the last one. tg N: N tokens one at a time, each step with its logits.
Both continue a context of `depth` tokens, which is filled once and not timed.
"""

import time
from typing import NamedTuple

import numpy as np

from engine import LoadedModel
from tools.cuda_timing import device_of
from tools.model_runs import SequenceRuns
from tools.peer_bench import PeerTest

PROMPT_CHUNK = 512  # tokens in one pass, the peer's default batch


class SpeedTest(NamedTuple):
    """kind is pp or tg."""

    kind: str
    n_tokens: int
    depth: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.n_tokens}" + (f"@{self.depth}" if self.depth else "")

    def of_peer(self) -> PeerTest | None:
        """None where its llama-bench has no such test: a prompt after a context."""
        if self.kind == "tg":
            return PeerTest(self.depth, self.n_tokens)
        return None if self.depth else PeerTest(self.n_tokens, 0)


class SpeedRuns:
    """One sequence's cache and random token ids for all tests of a model."""

    def __init__(self, loaded: LoadedModel, longest: int, depth: int, kv_type: str) -> None:
        device = device_of(loaded.ops)
        #: The device is the tests' stand-in: its speed means nothing.
        self.emulated = device is not None and device.emulated
        self._runs = SequenceRuns(loaded, 1, depth + longest, kv_type)
        rng = np.random.default_rng(0)
        self._context = rng.integers(0, loaded.config.n_vocab, depth).tolist()
        self._token_ids = rng.integers(0, loaded.config.n_vocab, longest).tolist()

    def fill_context(self) -> None:
        self._prompt(self._context, 0)

    def warm_up(self, test: SpeedTest) -> None:
        """As the peer does before each test: the whole prompt, or one token."""
        self._run(test if test.kind == "pp" else test._replace(n_tokens=1))

    def tokens_per_second(self, test: SpeedTest) -> float:
        started = time.perf_counter()
        self._run(test)
        return test.n_tokens / (time.perf_counter() - started)

    def step(self, depth: int) -> None:
        """One token after the filled context, with its logits."""
        self._generation(self._token_ids[:1], depth)

    def _run(self, test: SpeedTest) -> None:
        run = self._prompt if test.kind == "pp" else self._generation
        run(self._token_ids[: test.n_tokens], test.depth)

    def _prompt(self, token_ids: list[int], depth: int) -> None:
        for first in range(0, len(token_ids), PROMPT_CHUNK):
            self._runs.run([token_ids[first : first + PROMPT_CHUNK]], depth + first, 1)

    def _generation(self, token_ids: list[int], depth: int) -> None:
        for position, token_id in enumerate(token_ids, depth):
            self._runs.run([[token_id]], position, 1)
