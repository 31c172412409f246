"""The words spoken at the engine's door: what a user chose, what a request asks, what a step answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from kernels.choice_row import STEPS

if TYPE_CHECKING:
    import numpy as np

    from engine.pooling import Pooling

FinishReason = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True)
class EngineConfig:
    """What the user chose. What follows from it (number of KV blocks, ...) lives where it is worked out."""

    ctx_size: int | None = None  # longest single request, prompt + answer; None: the trained length
    max_batch: int = 64  # sequences in one forward pass
    kv_memory_bytes: int | None = None  # None: worked out from the model and the machine
    kv_block_size: int = 32  # tokens
    kv_type: str = "f16"  # of cached keys and values, one of kernels/kv_type.py's
    step_tokens: int = 512  # tokens in one forward pass, decode and prefill together; at least max_batch
    max_queue: int = 1024  # requests waiting beyond the running ones


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens: penalties, logit bias, allowed tokens, the steps of sampler_order, then Gumbel-max.

    kernels/reference/choice.py says what each does. `engine.sampling.validate` checks the values when the request is
    added (RequestError names the field).
    """

    max_tokens: int | None = None  # None and more than fit: to the end of the context
    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None  # None: drawn when the request is added
    ignore_eos: bool = False
    stop_token_ids: frozenset[int] = frozenset()  # end the answer too, whatever ignore_eos says
    min_tokens: int = 0  # of the answer before a token that ends it can be chosen, ignored or not
    allowed_token_ids: frozenset[int] | None = None  # no other can be chosen; None: all
    sampler_order: tuple[str, ...] = STEPS  # each step of kernels.choice_row.STEPS once
    logprobs: int | None = None  # log-probabilities of each token and of so many most likely ones; None: none


class TokenLogprobs(NamedTuple):
    """Under the model alone, before penalties and biases. NaN where the model's logits are not finite."""

    logprob: float  # of the token
    top: tuple[tuple[int, float], ...]  # the most likely token ids and theirs, as many as were asked for


class PromptReads(NamedTuple):
    """What a request wants to know of its prompt, besides an answer."""

    logprobs: int | None = None  # of each token after the first, and so many most likely ones; None: none
    hidden: bool = False  # the final normed hidden state of each token
    progress: bool = False  # an event for each piece of the prompt that has been computed


NO_READS = PromptReads()


@dataclass(frozen=True)
class TokenEvent:
    """What one step did for one request. A finished request's last event carries its finish_reason.

    token_ids holds the ids of this step in order (the end-of-generation token itself is not among them).
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    stop_token: int | None = None  # the token that ended it, which is not in token_ids
    n_prompt: int = 0  # tokens of the prompt
    n_read: int = 0  # tokens of the prompt that have been computed
    n_cached: int = 0  # prompt tokens that were found in a cache and not computed
    error: str | None = None  # with finish_reason "error": one line
    logprobs: tuple[TokenLogprobs, ...] = ()  # one for each of token_ids, where the request asks for them
    prompt_logprobs: tuple[
        TokenLogprobs, ...
    ] = ()  # for the next prompt tokens, in order, from the second on
    hidden: "np.ndarray | None" = None  # float32 [n, n_embd] of the next n prompt tokens, in order


class ModelFacts(NamedTuple):
    """What people ask of a loaded model."""

    architecture: str
    n_ctx_train: int  # tokens
    n_embd: int
    n_weights: int  # in the file's tensors
    file_bytes: int  # of these tensors
    pooling: "Pooling | None"  # what the file says of its embeddings, if it says something


@dataclass(frozen=True)
class EngineStats:
    """A snapshot for metrics and logs."""

    n_waiting: int
    n_running: int
    n_blocks: int
    n_free_blocks: int
    n_slots: int  # recurrent states of requests; 0 where the model keeps none
    n_free_slots: int
