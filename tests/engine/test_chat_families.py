"""The templates that model families ship, and the exact prompts those models were trained on."""

import re
from typing import Any

import pytest

from engine.errors import RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from support.chat_templates import ALL, CONTROL_TEXTS
from support.vocabularies import CONTROL, pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with(*((text, 0.0, CONTROL) for text in CONTROL_TEXTS))))
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": " Hello "}
ANSWER = {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHi!"}
BYE = {"role": "user", "content": "Bye"}
LONG = [SYSTEM, USER, ANSWER, BYE]
WEATHER = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "sea"}'}}
CALL = {"role": "assistant", "content": None, "tool_calls": [WEATHER]}
RESULT = {"role": "tool", "content": "rain"}
LLAMA_3_1_SYSTEM = (
    "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n"
)
JULY = {"date_string": "26 Jul 2024"}
OFF = {"enable_thinking": False}
TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}

EXPECTED: list[tuple[str, list[dict[str, Any]], dict[str, Any], str]] = [
    ("chatml", [SYSTEM, USER], {},
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n"),
    ("llama-2", [SYSTEM, USER, {"role": "assistant", "content": "Hi!"}, BYE], {},
     "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hello [/INST] Hi! </s><s>[INST] Bye [/INST]"),
    ("llama-2", [USER], {}, "<s>[INST] Hello [/INST]"),
    ("llama-3", [SYSTEM, USER], {},
     "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("llama-3.1", [SYSTEM, USER], JULY,
     LLAMA_3_1_SYSTEM + "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("llama-3.1", [USER, CALL | {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, RESULT], JULY,
     LLAMA_3_1_SYSTEM + "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
     '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "f", "parameters": {"a": 1}}<|eot_id|>'
     '<|start_header_id|>ipython<|end_header_id|>\n\n"rain"<|eot_id|>'
     "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("mistral", [USER, {"role": "assistant", "content": "Hi!"}, BYE], {},
     "<s>[INST]  Hello  [/INST]Hi!</s>[INST] Bye [/INST]"),
    ("mistral-nemo", [SYSTEM, USER, {"role": "assistant", "content": "Hi!"}, BYE], {},
     "<s>[INST] Hello [/INST]Hi!</s>[INST]Be brief.\n\nBye[/INST]"),
    ("mistral-nemo", [USER], TOOLS,
     '<s>[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "weather"}}][/AVAILABLE_TOOLS]'
     "[INST] Hello [/INST]"),
    ("qwen-2.5", [USER], {},
     "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-2.5", [SYSTEM, BYE], {},
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-3", [USER], {}, "<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-3", [USER], OFF,
     "<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    ("qwen-3", [USER], {"enable_thinking": True}, "<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-3", LONG, {},  # what was thought before is not shown again
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello <|im_end|>\n"
     "<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-3", [BYE, ANSWER | {"tool_calls": [WEATHER]}, RESULT, RESULT], {},  # but within one question it is
     "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\nA greeting.\n</think>\n\nHi!\n"
     '<tool_call>\n{"name": "weather", "arguments": {"at": "sea"}}\n</tool_call><|im_end|>\n'
     "<|im_start|>user\n<tool_response>\nrain\n</tool_response>\n<tool_response>\nrain\n</tool_response><|im_end|>\n"
     "<|im_start|>assistant\n"),
    ("qwen-3", [BYE, CALL | {"reasoning_content": "Look."}, RESULT], {},
     "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\nLook.\n</think>\n\n"
     '<tool_call>\n{"name": "weather", "arguments": {"at": "sea"}}\n</tool_call><|im_end|>\n'
     "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n<|im_start|>assistant\n"),
    ("qwen-3", [SYSTEM, BYE], TOOLS,
     "<|im_start|>system\nBe brief.\n\n# Tools\n\n<tools>\n"
     '{"type": "function", "function": {"name": "weather"}}\n</tools><|im_end|>\n'
     "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"),
    ("deepseek-v2", LONG, {},
     "<s>Be brief.\n\nUser:  Hello \n\nAssistant: <think>\nA greeting.\n</think>\n\nHi!</s>User: Bye\n\nAssistant:"),
    ("deepseek-r1", LONG, {},
     "<s>Be brief.<｜User｜> Hello <｜Assistant｜>\n\nHi!<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜><think>\n"),
    ("deepseek-r1", [BYE, CALL], {},
     "<s><｜User｜>Bye<｜Assistant｜><｜tool▁calls▁begin｜>function<｜tool▁sep｜>weather\n"
     '{"at": "sea"}<｜tool▁calls▁end｜><｜Assistant｜><think>\n'),
    ("zephyr", [SYSTEM, USER], {}, "<|system|>\nBe brief.</s>\n<|user|>\n Hello </s>\n<|assistant|>\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "messages", "extra", "expected"), EXPECTED)
def test_the_prompt_is_exactly_the_familys(
    name: str, messages: list[dict[str, Any]], extra: dict[str, Any], expected: str
) -> None:
    assert ChatTemplate(ALL[name], TOKENIZER).render(messages, extra=extra) == expected


def test_every_family_is_compared() -> None:
    assert {name for name, *_ in EXPECTED} == set(ALL)


@pytest.mark.parametrize(("name", "messages", "extra", "expected"), EXPECTED)
def test_control_tokens_of_the_prompt_are_tokens(
    name: str, messages: list[dict[str, Any]], extra: dict[str, Any], expected: str
) -> None:
    token_ids = ChatTemplate(ALL[name], TOKENIZER).encode(messages, extra=extra)
    spelled = "|".join(map(re.escape, [*CONTROL_TEXTS, "<s>", "</s>"]))
    controls = re.findall(spelled, expected)
    bos = [] if controls[:1] == ["<s>"] else ["<s>"]
    assert [TOKENIZER.piece(i) for i in token_ids if TOKENIZER.is_control(i)] == bos + controls


@pytest.mark.parametrize("name", ["llama-2", "mistral", "mistral-nemo"])
def test_a_family_that_wants_turns_refuses_two_questions_in_a_row(name: str) -> None:
    with pytest.raises(RequestError, match="roles must alternate"):
        ChatTemplate(ALL[name], TOKENIZER).render([USER, BYE])


def test_llama_3_1_tells_the_date_of_today() -> None:
    text = ChatTemplate(ALL["llama-3.1"], TOKENIZER).render([BYE])
    assert re.search(r"Today Date: \d\d \w{3} 20\d\d\n", text)
