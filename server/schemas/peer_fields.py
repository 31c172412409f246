"""Fields of llama.cpp's server, ik_llama.cpp, vLLM, SGLang, TabbyAPI, text-generation-webui, KoboldCpp, SillyTavern,
Ollama and OpenRouter that are not OpenAI's. What changes an answer's length, constraint, sampling or thinking is
honoured or refused here, whatever the peer calls it.
"""

from collections.abc import Mapping
from typing import Any

from engine.sampling import MAX_LOGPROBS
from server.schemas.fields import CHAT, COMPLETIONS, RequestField
from server.schemas.openai_fields import accepted, honoured, refused
from server.schemas.thinking import (
    BUDGET,
    ENABLED,
    FORMAT,
    HIDDEN_UNLESS,
    INLINE_UNLESS,
    REASONING,
    SWITCH,
    TEMPLATE_KWARGS,
)
from server.schemas.values import (
    BOOLEAN,
    MAX_WORDS,
    TOKEN_IDS,
    WORDS,
    count,
    integer,
    one_of,
    sampling_number,
)

_PENALTIES = {
    "repetition_penalty": 1,
    "repeat_penalty": 1,
    "rep_pen": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
}


def _no_penalty(body: Mapping[str, Any]) -> bool:
    return all(body.get(name) in (None, "", False, off) for name, off in _PENALTIES.items())


_SAMPLING: tuple[RequestField, ...] = (
    honoured("top_k", "The k likeliest tokens; 0 and -1: all.", kind=count(-1), nothing=(0, -1)),
    honoured(
        "min_p",
        "Tokens with at least this share of the likeliest one's probability.",
        kind=sampling_number("min_p"),
    ),
    honoured(
        "repetition_penalty repeat_penalty rep_pen",
        "Divides the logits of tokens that are in the prompt or the answer; 1: off.",
        kind=sampling_number("repetition_penalty"),
        key="repetition_penalty",
    ),
    refused(
        "repeat_last_n", "penalties that look at the last tokens only, beside a penalty", -1, idle=_no_penalty
    ),
    refused(
        "repetition_penalty_range rep_pen_range penalty_range repetition_range",
        "penalties that look at the last tokens only, beside a penalty",
        0,
        -1,
        idle=_no_penalty,
    ),
    refused(
        "repetition_decay rep_pen_slope", "penalties that fade, beside a penalty", 0, 1, idle=_no_penalty
    ),
    refused(
        "penalize_nl",
        "penalties without the newline, beside a penalty",
        True,
        false_asks=True,
        idle=_no_penalty,
    ),
    refused("encoder_repetition_penalty", "a penalty on what is not in the prompt", 1),
    refused("penalty_prompt", "a prompt of its own for the penalties"),
    refused("no_repeat_ngram_size no_repeat_ngram", "a ban on repeated n-grams", 0),
    refused("typical_p typical typ_p", "typical sampling", 1, 0),
    refused("tfs tfs_z", "tail-free sampling", 1),
    refused("top_a", "top-a sampling", 0),
    refused("top_n_sigma nsigma", "top-n-sigma sampling", 0, -1),
    refused("epsilon_cutoff eta_cutoff", "cut-offs of small probabilities", 0),
    refused("penalty_alpha", "contrastive search", 0),
    refused("mirostat mirostat_mode mirostat_type", "mirostat", 0),
    accepted("mirostat_tau mirostat_eta", "Act with mirostat, which is refused."),
    refused("xtc_probability", "XTC", 0),
    accepted("xtc_threshold", "Acts with `xtc_probability`, which is refused."),
    refused("dry_multiplier", "DRY", 0),
    accepted(
        "dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers dry_range",
        "Act with `dry_multiplier`, which is refused.",
    ),
    refused("dynamic_temperature", "a temperature that moves"),
    refused("dynatemp_range", "a temperature that moves", 0),
    accepted(
        "dynatemp_low dynatemp_high dynatemp_exponent", "Act with `dynamic_temperature`, which is refused."
    ),
    refused("min_temp max_temp", "a temperature that moves", 1, 0),
    refused("smoothing_factor", "quadratic sampling", 0),
    accepted("smoothing_curve", "Acts with `smoothing_factor`, which is refused."),
    refused("skew", "skewed probabilities", 0),
    refused("adaptive_target", "adaptive sampling", -1),
    accepted("adaptive_decay", "Acts with `adaptive_target`, which is refused."),
    refused("temperature_last", "the temperature after the other samplers"),
    refused("samplers sampler_order sampler_priority sampler_seq", "an order of samplers"),
    refused("preset", "a preset of sampling"),
    refused("min_keep", "a least number of tokens that samplers leave", 0, 1),
    refused("guidance_scale cfg_scale", "classifier-free guidance", 1),
    accepted("negative_prompt", "Acts with `guidance_scale`, which is refused."),
    refused("do_sample", "answers without sampling: send temperature 0", True, false_asks=True),
    refused("use_beam_search", "beam search"),
    refused("num_beams", "beam search", 1),
    accepted("length_penalty early_stopping", "Act with beam search, which is refused."),
)

_LENGTH: tuple[RequestField, ...] = (
    honoured("ignore_eos", "The answer goes on after an end-of-text token.", kind=BOOLEAN),
    honoured(
        "min_tokens min_new_tokens min_length",
        "So many tokens come before one that ends the answer; a stop string ends it all the same.",
        kind=count(0),
    ),
    honoured("ban_eos_token use_default_badwordsids", "No token ends the answer.", kind=BOOLEAN),
    refused("bypass_eos", "an answer that goes on after its end: send ignore_eos"),
    honoured("stop_token_ids", "Tokens that end the answer, at most 128.", kind=TOKEN_IDS),
    refused("stop_regex", "patterns that end the answer"),
    refused("custom_stopping_strings", "stop strings within one string: send a list as stop"),
    honoured(
        "include_stop_str_in_output no_stop_trim",
        "The answer keeps the stop string that ends it.",
        kind=BOOLEAN,
    ),
    refused(
        "trim_stop", "the stop string in the answer: send include_stop_str_in_output", True, false_asks=True
    ),
    refused("n_indent", "a least indentation of the answer", 0),
    refused("t_max_predict_ms t_max_prompt_ms timeout_ms", "a limit of time", 0, -1),
    refused("max_tokens_second", "a limit of speed", 0),
    refused("auto_max_new_tokens", "a length that the server chooses"),
    accepted(
        "n_keep n_discard", "Act when a context is shifted; here an answer ends where its context does."
    ),
    accepted("max_context_length truncation_length num_ctx", "The context's length is the server's."),
    honoured(
        "truncate_prompt_tokens truncate",
        "Only so many tokens of the prompt are kept; -1: as many as the context holds beside `max_tokens`.",
        kind=count(-1),
        nothing=(0,),
        key="truncate",
    ),
    honoured(
        "truncation_side",
        "Where `truncate_prompt_tokens` cuts: left (the default) or right.",
        kind=one_of("left", "right"),
    ),
    refused("transforms", "prompts that are cut"),
)

_CONSTRAINTS: tuple[RequestField, ...] = (
    refused(
        "grammar_lazy grammar_triggers", "a grammar that begins within the answer: send a structural_tag"
    ),
    refused("guided_whitespace_pattern", "white space of the client's own in JSON"),
    accepted("guided_decoding_backend", "There is one."),
    accepted("preserved_tokens", "Acts with `grammar_lazy`, which is refused."),
    accepted("grammar_retain_state", "Every answer begins its form anew."),
    honoured("allowed_token_ids allowed_tokens", "No other token can be chosen.", kind=TOKEN_IDS),
    honoured(
        "bad_words",
        f"Texts that do not come, at most {MAX_WORDS}, alone or after a space: the token that would complete one is "
        "forbidden.",
        kind=WORDS,
    ),
    refused(
        "bad_words_ids banned_tokens banned_strings banned_regex custom_token_bans",
        "words that may not come: send texts as bad_words, or ban token ids by logit_bias -100",
    ),
    refused(
        "logits_processors logit_processors logits_processor_args custom_logit_processor custom_params vllm_xargs",
        "a program of the client's in the sampler",
    ),
    refused("token_healing", "a prompt whose last token is chosen anew"),
    refused("repetition_detection", "an end to answers that repeat themselves"),
)

_CHATS = frozenset({CHAT})
_THINKING: tuple[RequestField, ...] = (
    honoured(
        "enable_thinking",
        "Sets the chat template's switch for thinking, if it has one.",
        kind=ENABLED,
        key="thinking",
        false_asks=True,
        routes=_CHATS,
    ),
    honoured(
        "thinking think",
        'The same: true, false, an effort, `{"type": "enabled", "budget_tokens": n}` or `{"type": "disabled"}`.',
        kind=SWITCH,
        key="thinking",
        false_asks=True,
        routes=_CHATS,
    ),
    honoured(
        "chat_template_kwargs template_vars",
        "Variables of the chat template by their names, such as `enable_thinking`; not those of the conversation.",
        kind=TEMPLATE_KWARGS,
        key="thinking",
        routes=_CHATS,
    ),
    honoured(
        "reasoning",
        '`{"enabled": ..., "effort": ..., "max_tokens": ..., "exclude": ...}`: the switch, an effort, a budget, '
        "thoughts left out of the answer.",
        kind=REASONING,
        key="thinking",
        routes=_CHATS,
    ),
    honoured(
        "thinking_budget thinking_budget_tokens thinking_token_budget reasoning_budget reasoning_budget_tokens "
        "reasoning_max_tokens max_thinking_tokens max_reasoning_tokens",
        "Tokens of thought, after which the server writes the thought's end; 0: none; -1: any number.",
        kind=BUDGET,
        key="thinking",
        routes=_CHATS,
    ),
    honoured(
        "reasoning_format",
        "none: thoughts stay in the content, as the model writes them; deepseek and auto: apart from it.",
        kind=FORMAT,
        key="thinking",
        routes=_CHATS,
    ),
    honoured(
        "include_reasoning",
        "false: thoughts are left out of the answer; they count as its tokens.",
        kind=HIDDEN_UNLESS,
        key="thinking",
        false_asks=True,
        routes=_CHATS,
    ),
    honoured(
        "separate_reasoning",
        "false: thoughts stay in the content.",
        kind=INLINE_UNLESS,
        key="thinking",
        false_asks=True,
        routes=_CHATS,
    ),
    accepted("thinking_budget_message reasoning_budget_message", "A thought ends with its own mark."),
    accepted("stream_reasoning reasoning_in_content", "Thoughts are streamed as they come."),
    accepted(
        "enable_thinking thinking think chat_template_kwargs template_vars reasoning thinking_budget "
        "thinking_budget_tokens thinking_token_budget reasoning_budget reasoning_budget_tokens reasoning_max_tokens "
        "max_thinking_tokens max_reasoning_tokens reasoning_format include_reasoning separate_reasoning",
        "A text completion has no chat template and no thoughts apart.",
        routes=frozenset({COMPLETIONS}),
    ),
)

_PROMPT: tuple[RequestField, ...] = (
    honoured(
        "parse_special",
        "Control tokens that a text prompt spells are those tokens; false: they are plain text.",
        kind=BOOLEAN,
        routes=frozenset({COMPLETIONS}),
    ),
    accepted("parse_special", "Messages never spell control tokens.", routes=frozenset({CHAT})),
    refused("chat_template prompt_template template", "a chat template of the request's"),
    honoured(
        "add_generation_prompt",
        "false: the prompt ends after the last message, without the beginning of an answer.",
        kind=BOOLEAN,
        routes=frozenset({CHAT}),
    ),
    honoured(
        "continue_final_message continue_ continue_assistant_turn",
        "The answer continues the last message, which is the assistant's.",
        kind=BOOLEAN,
        key="continue_final_message",
        routes=frozenset({CHAT}),
    ),
    refused(
        "add_generation_prompt continue_final_message continue_ continue_assistant_turn",
        "messages, which this route has none of",
        True,
        false_asks=False,
        routes=frozenset({COMPLETIONS}),
    ),
    refused(
        "response_prefix",
        "the beginning of the answer: send it as a last message with continue_final_message",
    ),
    refused("documents", "documents for the chat template"),
    refused("system", "a system text beside the messages: send it as a message of role system"),
    refused("instruction_template instruction_template_str character", "a chat template of the request's"),
    refused("mode", "another way of prompting", "instruct"),
    refused("memory", "a text before the prompt"),
    refused(
        "add_bos_token add_special add_special_tokens",
        "a prompt without the text's beginning",
        True,
        false_asks=True,
        routes=frozenset({COMPLETIONS}),
    ),
    refused(
        "add_bos_token add_special add_special_tokens",
        "a beginning of text beside the chat template's",
        True,
        routes=frozenset({CHAT}),
    ),
    refused(
        "image_data images image video_data audio_data multimodal_data multi_modal_data", "images and sound"
    ),
    accepted("mm_processor_kwargs media_io_kwargs multi_modal_uuids", "Act with images, which are refused."),
    refused("input_embeds prompt_embeds", "prompts that are not tokens"),
    refused(
        "extra_body options sampling_params parameters",
        "fields within a field: send them beside prompt or messages",
    ),
)

_ANSWER: tuple[RequestField, ...] = (
    honoured(
        "n_probs",
        f"As `logprobs` with so many `top_logprobs`, at most {MAX_LOGPROBS}.",
        kind=integer(0, MAX_LOGPROBS),
        nothing=(0,),
        routes=frozenset({CHAT}),
    ),
    honoured(
        "prompt_logprobs",
        f"Log-probabilities of the prompt's tokens, and of so many of the likeliest, at most {MAX_LOGPROBS}; "
        "not with `stream`.",
        kind=integer(0, MAX_LOGPROBS),
    ),
    accepted("post_sampling_probs logprob_token_ids", "Log-probabilities are the model's, before sampling."),
    honoured(
        "return_token_ids return_tokens",
        "`prompt_token_ids` of the prompt and `token_ids` of the answer.",
        kind=BOOLEAN,
        key="return_token_ids",
    ),
    honoured("return_tokens_as_token_ids", "Log-probabilities name tokens as `token_id:ID`.", kind=BOOLEAN),
    refused(
        "return_logprob return_hidden_states return_prompt return_full_text",
        "more of the answer than its text",
    ),
    refused("skip_special_tokens", "control tokens in the answer", True, false_asks=True),
    accepted("spaces_between_special_tokens", "Acts with control tokens in the answer, which are refused."),
    honoured(
        "timings_per_token",
        "`timings` in every event; the last one and a whole answer have them anyway.",
        kind=BOOLEAN,
    ),
    honoured(
        "return_progress",
        "With `stream`: events with `prompt_progress` while the prompt is read.",
        kind=BOOLEAN,
    ),
    accepted("verbose return_meta_info", "More about the server than about the answer."),
    accepted("parse_tool_calls", "Acts with `tools`."),
    refused("lora lora_path lora_request lora_adapters adapter_id adapters", "an adapter"),
    refused("priority", "an order among requests", 0),
    accepted(
        "cache_prompt cache_salt n_cache_reuse id_slot slot_id keep_alive provider sse_ping_interval stream_interval "
        "backend_sampling",
        "Where and how fast an answer is computed does not change it.",
    ),
    accepted(
        "speculative.n_max speculative.n_min speculative.p_min speculative.type draft_model num_draft_tokens",
        "Speculation does not change an answer.",
    ),
)

PEER_FIELDS: tuple[RequestField, ...] = (
    *_SAMPLING,
    *_LENGTH,
    *_CONSTRAINTS,
    *_THINKING,
    *_PROMPT,
    *_ANSWER,
)
