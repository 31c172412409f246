"""What an engine answers to a few requests, down to the last bit of each log-probability."""

from collections.abc import Iterable
from typing import Any

from engine import Engine, EngineConfig, SamplingParams
from engine.loading import LoadedModel
from engine.types import PromptReads
from support.random_models import TOKEN_IDS

PROMPTS = [TOKEN_IDS[first : first + n].tolist() for first, n in ((0, 50), (50, 5), (60, 40), (100, 33))]
N_ANSWER = 20
#: Of all a request's tokens in order, the prompt's after its first included: id or None, log-probability.
Transcript = list[tuple[int | None, float]]


def config_of(loaded: LoadedModel, **options: Any) -> EngineConfig:
    """ctx_size: enough for each prompt and its answer."""
    return EngineConfig(**{"ctx_size": min(96, loaded.config.n_ctx_max), "max_batch": 4} | options)


def transcripts(engine: Engine, which: Iterable[int], n_answer: int = N_ANSWER) -> dict[int, Transcript]:
    """Requests PROMPTS[i], each sampled with the seed i. Nothing may be left behind."""
    got: dict[int, Transcript] = {}
    for i in which:
        params = SamplingParams(temperature=1.0, seed=i, max_tokens=n_answer, ignore_eos=True, logprobs=0)
        engine.add(str(i), PROMPTS[i], params, PromptReads(logprobs=0))
        got[i] = []
    while engine.has_work:
        for event in engine.step():
            assert event.finish_reason != "error", event.error
            got[int(event.request_id)] += [(None, read.logprob) for read in event.prompt_logprobs]
            pairs = zip(event.token_ids, event.logprobs, strict=True)
            got[int(event.request_id)] += [(token_id, read.logprob) for token_id, read in pairs]
    engine.check_integrity()
    assert all(len(transcript) == len(PROMPTS[i]) - 1 + n_answer for i, transcript in got.items())
    return got
