"""Whole requests as clients write them: with every one of their fields, most at the value that asks for nothing."""

from typing import Any

import httpx
import pytest

from support.server_process import ServerProcess

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

#: Fields read in each client's sources.
BODIES: dict[str, dict[str, Any]] = {
    "llama.cpp's web page": {
        "messages": [USER], "stream": True, "return_progress": True, "timings_per_token": True,
        "reasoning_format": "auto", "temperature": 0.8, "dynatemp_range": 0, "dynatemp_exponent": 1, "top_k": 40,
        "top_p": 0.95, "min_p": 0.05, "xtc_probability": 0, "xtc_threshold": 0.1, "typ_p": 1, "max_tokens": 4,
        "samplers": [], "repeat_last_n": 64, "repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0,
        "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
    },
    "SillyTavern": {
        "prompt": "hi", "max_tokens": 4, "max_new_tokens": 4, "n_predict": 4, "typical_p": 1, "typical": 1,
        "sampler_seed": -1, "min_p": 0, "repetition_penalty": 1.1, "rep_pen": 1.1, "repetition_penalty_range": 0,
        "top_k": 0, "min_tokens": 0, "length_penalty": 1, "early_stopping": False, "add_bos_token": True,
        "dynamic_temperature": False, "dynatemp_low": 1, "dynatemp_high": 1, "dynatemp_exponent": 1,
        "smoothing_factor": 0, "smoothing_curve": 1, "dry_sequence_breakers": ["\n", ":"], "dry_multiplier": 0,
        "mirostat_mode": 0, "mirostat_tau": 5, "mirostat_eta": 0.1, "stop": ["\nYou:"],
        "stopping_strings": ["\nYou:"],
        "ban_eos_token": False, "skip_special_tokens": True, "top_a": 0, "tfs": 1, "epsilon_cutoff": 0,
        "eta_cutoff": 0, "guidance_scale": 1, "negative_prompt": "", "grammar_string": "", "json_schema": {},
        "banned_tokens": "", "custom_token_bans": "", "banned_strings": [], "sampler_order": [], "cache_prompt": True,
        "truncation_length": 8192, "nsigma": 0, "temperature_last": False,
        "do_sample": True, "include_reasoning": True,
        "no_repeat_ngram_size": 0, "num_beams": 1, "penalty_alpha": 0, "speculative_ngram": False, "logit_bias": [],
    },
    "Open WebUI": {
        "messages": [USER], "stream": True, "temperature": 0.8, "top_p": 0.9, "min_p": 0.0,
        "max_tokens": 4, "seed": 0,
        "stop": ["x"], "logit_bias": {}, "response_format": None, "stream_options": {"include_usage": True},
        "chat_id": "1", "session_id": "2", "features": {"web_search": False},
    },
    "Zed": {
        "messages": [USER, {"role": "assistant", "content": [], "tool_calls": [CALL]},
                     {"role": "tool", "content": "x", "tool_call_id": "c1"}],
        "stream": True, "max_completion_tokens": 4, "temperature": 1.0, "prompt_cache_key": "x", "tools": [],
    },
    "Semantic Kernel": {
        "messages": [USER], "temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "n": 1,
        "max_tokens": 4, "stop": [], "logit_bias": {}, "user": "", "stream": False, "tool_choice": "none",
        "tools": [TOOL],
    },
    "Continue's completion": {
        "prompt": "a", "max_tokens": 4, "stream": True, "stop": [f"s{i}" for i in range(17)], "suffix": "",
    },
    "guidellm": {
        "prompt": "hi", "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 4, "max_completion_tokens": 4, "stop": None, "ignore_eos": True,
    },
    "vLLM's bench": {
        "prompt": "hi", "repetition_penalty": 1.0, "max_tokens": 4, "logprobs": None, "stream": True, "best_of": 1,
        "stream_options": {"include_usage": True}, "ignore_eos": True, "temperature": 0.0,
    },
    "LangChain, everything null": {
        "messages": [USER], "max_tokens": 4, "n": None, "stream": False, "temperature": None, "top_p": None,
        "stop": None, "logprobs": None, "top_logprobs": None, "reasoning_effort": None, "response_format": None,
        "tools": None,
        "tool_choice": None, "seed": None, "service_tier": None,
        "stream_options": None, "max_completion_tokens": None,
    },
    "KoboldAI Lite": {
        "messages": [USER], "max_length": 4, "max_context_length": 4096, "rep_pen": 1.07, "rep_pen_slope": 0,
        "temperature": 0.75, "tfs": 1, "top_a": 0, "top_k": 100, "top_p": 0.92, "typical": 1, "images": [],
        "banned_tokens": [], "bypass_eos": False, "use_default_badwordsids": False, "stop_sequence": ["\nYou:"],
        "trim_stop": True, "memory": "", "grammar": "", "dynatemp_range": 0, "xtc_probability": 0, "mirostat": 0,
    },
    "roles and parts of all kinds": {
        "messages": [
            {"role": "developer", "content": None}, {"role": "critic", "content": "x"},
            {"role": "user", "content": []},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": [{"type": "input_text", "text": "hi"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, USER,
        ],
        "max_tokens": 4,
    },
    "aiperf": {
        "messages": [USER], "stream": True, "max_completion_tokens": 4, "min_tokens": 4, "ignore_eos": True,
        "stream_options": {"include_usage": True},
    },
    "Qwen's switch": {
        "messages": [USER], "max_tokens": 4, "chat_template_kwargs": {"enable_thinking": False},
    },
}  # fmt: skip


@pytest.mark.parametrize("client", BODIES)
def test_a_client_is_answered(server: ServerProcess, client: str) -> None:
    body = BODIES[client]
    route = "completions" if "prompt" in body else "chat/completions"
    answer = httpx.post(f"{server.url}/v1/{route}", json={"model": "tiny"} | body)
    assert answer.status_code == 200, answer.text
    assert '"error"' not in answer.text
    if body.get("stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.json()["usage"]["completion_tokens"] <= 4
