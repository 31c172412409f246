"""Every field that OpenAI's SDK can send to the two completion routes, with the peers' other names of the same thing.

Where several names are sent, the first of a row is the one that counts: OpenAI's.
"""

from collections.abc import Mapping
from typing import Any

from engine.sampling import MAX_LOGPROBS
from server.schemas.fields import CHAT, COMPLETIONS, RequestField, Use
from server.schemas.thinking import EFFORT
from server.schemas.tools import FUNCTION_CALL, FUNCTIONS, TOOL_CHOICE, TOOLS
from server.schemas.values import (
    BOOLEAN,
    LOGIT_BIAS,
    MAX_CHOICES,
    MESSAGES,
    OBJECT,
    PROMPT,
    SEED,
    STOPS,
    TEXT,
    count,
    integer,
    sampling_number,
)

HONOURED, ACCEPTED, REFUSED = Use


def honoured(names: str, about: str, **more: Any) -> RequestField:
    return RequestField(tuple(names.split()), HONOURED, about, **more)


def accepted(names: str, about: str, **more: Any) -> RequestField:
    return RequestField(tuple(names.split()), ACCEPTED, about, **more)


def refused(names: str, about: str, *nothing: Any, **more: Any) -> RequestField:
    """nothing: values that ask for nothing."""
    return RequestField(tuple(names.split()), REFUSED, about, nothing=nothing, **more)


def _no_tool_may_be_called(body: Mapping[str, Any]) -> bool:
    return "none" in (body.get("tool_choice"), body.get("function_call"))


OPENAI_FIELDS: tuple[RequestField, ...] = (
    honoured(
        "messages",
        "The conversation. Contents are texts, lists of text parts, or null.",
        kind=MESSAGES,
        routes=frozenset({CHAT}),
        required=True,
    ),
    honoured(
        "prompt",
        "A text, token ids, or a list of either: one choice for each.",
        kind=PROMPT,
        routes=frozenset({COMPLETIONS}),
        required=True,
    ),
    honoured(
        "model",
        "The served model; another name is a 404. A provider's path before the name and a tag after it are ignored "
        "(`openai/NAME`, `NAME:latest`).",
        kind=TEXT,
    ),
    honoured("stream", "Server-sent events instead of one object.", kind=BOOLEAN),
    honoured(
        "stream_options",
        "`include_usage`: a last event with the tokens counted. `continuous_usage_stats`: the count so far in every "
        "event. Either without `stream` is a 400.",
        kind=OBJECT,
    ),
    honoured(
        "max_completion_tokens max_tokens max_new_tokens n_predict num_predict max_output_tokens max_length",
        "Tokens of the answer; what is beyond the context is cut to it. -1: to the end of the context, the default "
        "of chats (completions: 16).",
        kind=count(-1),
        key="max_tokens",
    ),
    honoured(
        "temperature",
        "0 takes the likeliest token; any finite number above.",
        kind=sampling_number("temperature"),
    ),
    honoured(
        "top_p",
        "The most probable tokens that hold this much of the mass; 0 takes the likeliest.",
        kind=sampling_number("top_p"),
    ),
    honoured(
        "frequency_penalty",
        "For each time that a token is in the answer, -2 to 2.",
        kind=sampling_number("frequency_penalty"),
    ),
    honoured(
        "presence_penalty",
        "For every token that is in the answer, -2 to 2.",
        kind=sampling_number("presence_penalty"),
    ),
    honoured(
        "logit_bias",
        "Token ids and what is added to their logits, -100 to 100: an object, or a list of pairs.",
        kind=LOGIT_BIAS,
    ),
    honoured(
        "seed sampler_seed", "The same seed gives the same tokens; -1 is random.", kind=SEED, nothing=(-1,)
    ),
    honoured(
        "stop stopping_strings stop_sequences stop_sequence stop_strings",
        "A string or 128 of them, which end the answer and are not in it. Several fields add up.",
        kind=STOPS,
        key="stop",
    ),
    honoured(
        "reasoning_effort",
        '"none" turns thinking off, another on, where the chat template has a switch; the template is told it.',
        kind=EFFORT,
        key="thinking",
        routes=frozenset({CHAT}),
    ),
    accepted("reasoning_effort", "A text completion has no chat template.", routes=frozenset({COMPLETIONS})),
    accepted("user safety_identifier", "Who asks."),
    accepted("metadata", "Notes for a store of answers; there is none."),
    accepted("service_tier", "There is one tier."),
    accepted("prompt_cache_key prompt_cache_options prompt_cache_retention", "Hints for a cache."),
    accepted("moderation", "Nothing is moderated."),
    accepted("verbosity", "Models that are served here are not trained on it."),
    accepted("prediction", "A hint that can only make an answer faster."),
    honoured(
        "n",
        f"Answers to each prompt, {MAX_CHOICES} at most of all prompts. With a `seed` answer i has `seed` + i.",
        kind=integer(1, MAX_CHOICES),
        nothing=(1,),
    ),
    honoured(
        "best_of",
        "So many answers are made, and the `n` likeliest are told; not with `stream`.",
        kind=integer(1, MAX_CHOICES),
        nothing=(1,),
        routes=frozenset({COMPLETIONS}),
    ),
    honoured(
        "echo",
        "The prompt in front of the answer; with `logprobs` its tokens too, with `max_tokens` 0 these alone.",
        kind=BOOLEAN,
        routes=frozenset({COMPLETIONS}),
    ),
    honoured(
        "echo",
        "With `continue_final_message`: the message that is continued, in front of the answer.",
        kind=BOOLEAN,
        routes=frozenset({CHAT}),
    ),
    honoured(
        "suffix",
        "The text after the answer, for models with tokens to fill in a middle; a 400 for others.",
        kind=TEXT,
        routes=frozenset({COMPLETIONS}),
    ),
    honoured(
        "logprobs",
        "The log-probability of each token of the answer.",
        kind=BOOLEAN,
        routes=frozenset({CHAT}),
    ),
    honoured(
        "top_logprobs",
        f"Those of the likeliest tokens at each place too, at most {MAX_LOGPROBS}; needs `logprobs`.",
        kind=integer(0, MAX_LOGPROBS),
        nothing=(0,),
        routes=frozenset({CHAT}),
    ),
    honoured(
        "logprobs n_probs",
        f"The log-probability of each token of the answer, and of so many of the likeliest, at most {MAX_LOGPROBS}.",
        kind=integer(0, MAX_LOGPROBS),
        routes=frozenset({COMPLETIONS}),
    ),
    honoured(
        "tools",
        "Functions that the model may call, at most 128. Arguments of a `strict` one match its schema, by a grammar; "
        'with tool_choice "none" they are not read.',
        kind=TOOLS,
        routes=frozenset({CHAT}),
    ),
    honoured(
        "tool_choice",
        "auto; none; required: at least one call; an object that names a tool: that one; `allowed_tools`: of these "
        "alone. Calls that are asked for are obliged by a grammar.",
        kind=TOOL_CHOICE,
        routes=frozenset({CHAT}),
    ),
    honoured(
        "parallel_tool_calls",
        "false: at most one call.",
        kind=BOOLEAN,
        routes=frozenset({CHAT}),
    ),
    accepted("parallel_tool_calls", "Acts with `tools`.", routes=frozenset({COMPLETIONS})),
    honoured("functions", "As `tools`, for older clients.", kind=FUNCTIONS, routes=frozenset({CHAT})),
    honoured(
        "function_call",
        "As `tool_choice`, for older clients.",
        kind=FUNCTION_CALL,
        routes=frozenset({CHAT}),
    ),
    refused(
        "tools tool_choice functions function_call",
        "calls of tools: use the chat route",
        "none",
        "auto",
        idle=_no_tool_may_be_called,
        routes=frozenset({COMPLETIONS}),
    ),
    refused("modalities", "answers that are not text", ["text"]),
    refused("audio", "spoken answers"),
    refused("store", "a store of answers"),
    refused("web_search_options", "search in the web"),
)
