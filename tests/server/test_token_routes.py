"""Texts to tokens and back, for clients of llama.cpp, of vLLM, and for eval harnesses."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine import RequestError
from engine.loading.gguf_file import GGUFFile
from engine.text.tokenizer import Tokenizer, load_tokenizer
from server.schemas.route_fields import MAX_TOKENS
from server.token_json import json_list
from support.interpreter_lock import share_of_longest_pause
from support.server_process import ServerProcess, running_server

CHAT = [{"role": "user", "content": "the inn"}]


def post(server: ServerProcess, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(server: ServerProcess, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(server.url + path, content=json.dumps(body), timeout=60)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    with GGUFFile.open(tiny_model) as file:
        return load_tokenizer(file.metadata)


def test_content_has_no_bos_and_prompt_has_it(server: ServerProcess, tokenizer: Tokenizer) -> None:
    """llama.cpp's default and vLLM's."""
    plain = tokenizer.encode("the inn", add_special=False, parse_special=True)
    assert post(server, "/tokenize", content="the inn")["tokens"] == plain
    assert post(server, "/tokenize", content="the inn", add_special=True)["tokens"] == [1, *plain]
    assert post(server, "/tokenize", prompt="the inn", add_special_tokens=False)["tokens"] == plain
    answer = post(server, "/tokenize", model="tiny", prompt="the inn")
    assert answer == {
        "tokens": [1, *plain],
        "count": len(plain) + 1,
        "max_model_len": 512,
        "token_strs": None,
    }
    assert post(server, "/tokenize", content="") == answer | {"tokens": [], "count": 0}


def test_control_tokens_are_parsed_unless_told_otherwise(server: ServerProcess) -> None:
    assert post(server, "/tokenize", content="</s>")["tokens"] == [2]
    assert 2 not in post(server, "/tokenize", content="</s>", parse_special=False)["tokens"]


def test_a_piece_is_a_text_or_its_bytes_where_it_is_part_of_a_character(server: ServerProcess) -> None:
    text = "the 媽 🤗 inn</s>"
    answer = post(server, "/tokenize", content=text, with_pieces=True)
    data = b""
    for token in answer["tokens"]:
        piece = token["piece"]
        assert piece, token
        data += piece.encode() if isinstance(piece, str) else bytes(piece)
    assert data.decode().removeprefix(" ") == text
    assert any(isinstance(token["piece"], list) for token in answer["tokens"])
    assert [t["id"] for t in answer["tokens"]] == post(server, "/tokenize", content=text)["tokens"]


def test_token_strings_are_those_of_the_vocabulary(server: ServerProcess, tokenizer: Tokenizer) -> None:
    answer = post(server, "/tokenize", prompt="the inn", return_token_strs=True)
    assert answer["token_strs"] == [tokenizer.piece(i) for i in answer["tokens"]]
    assert answer["token_strs"][0] == "<s>"


def test_a_chat_s_tokens_are_those_that_it_is_answered_from(server: ServerProcess) -> None:
    tokens = post(server, "/tokenize", messages=CHAT)
    answered = post(server, "/v1/chat/completions", messages=CHAT, max_tokens=1)
    assert tokens["count"] == answered["usage"]["prompt_tokens"]
    assert post(server, "/v1/chat/completions/input_tokens", messages=CHAT) == {
        "object": "response.input_tokens",
        "input_tokens": tokens["count"],
    }
    rendered = post(server, "/v1/chat/completions/render", messages=CHAT, temperature=0, stop="x", seed=7)
    assert rendered["token_ids"] == tokens["tokens"]
    sampling = rendered["sampling_params"]
    assert (sampling["temperature"], sampling["seed"], sampling["n"]) == (0, 7, 1)
    assert "x" in sampling["stop"]
    prompt = post(server, "/apply-template", messages=CHAT)["prompt"]
    assert "the inn" in prompt
    assert post(server, "/tokenize", prompt=prompt)["tokens"] == tokens["tokens"]
    without = post(server, "/apply-template", messages=CHAT, add_generation_prompt=False)["prompt"]
    assert prompt.startswith(without)
    assert prompt != without


TEMPLATE = """{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}
{{ message.role }}: {{ message.content }}{% endfor %}{% if add_generation_prompt %}
assistant:{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"""


def test_tools_and_variables_of_the_template_count(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tools.jinja"
    path.write_text(TEMPLATE)
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    more = {"tools": [tool], "chat_template_kwargs": {"enable_thinking": False}}
    with running_server(tiny_model, "--chat-template", str(path)) as templated:
        plain = post(templated, "/tokenize", messages=CHAT)["count"]
        tokens = post(templated, "/tokenize", messages=CHAT, **more)
        answered = post(templated, "/v1/chat/completions", messages=CHAT, max_tokens=1, **more)
        assert tokens["count"] == answered["usage"]["prompt_tokens"] > plain
        prompt = post(templated, "/apply-template", messages=CHAT, **more)["prompt"]
        assert "look_up" in prompt
        assert prompt.endswith("assistant:<think></think>")
        assert post(templated, "/tokenize", prompt=prompt)["tokens"] == tokens["tokens"]
        rendered = post(templated, "/v1/chat/completions/render", messages=CHAT, **more)
        assert rendered["token_ids"] == tokens["tokens"]


def test_a_text_longer_than_the_context_is_counted(server: ServerProcess) -> None:
    answer = post(server, "/tokenize", prompt="the inn " * 20_000)
    assert answer["count"] == len(answer["tokens"]) > answer["max_model_len"]
    chat = [{"role": "user", "content": "the inn " * 20_000}]
    assert post(server, "/v1/chat/completions/input_tokens", messages=chat)["input_tokens"] > 512


def test_a_text_of_too_many_tokens_is_refused_in_one_line(server: ServerProcess) -> None:
    error = refused(server, "/tokenize", content="\u4e00" * (MAX_TOKENS // 2))
    assert (error["param"], error["code"]) == ("prompt", None)
    assert str(MAX_TOKENS) in error["message"]
    error = refused(server, "/detokenize", tokens=[5] * (MAX_TOKENS + 1))
    assert error["param"] == "tokens"


def test_detokenized_texts_are_those_that_were_tokenized(server: ServerProcess) -> None:
    for text in ("the inn", "", " two  spaces ", "</s>the<s> inn", "caf\u00e9 🤗\n\t<unk>"):
        tokens = post(server, "/tokenize", content=text)["tokens"]
        assert post(server, "/detokenize", tokens=tokens) == {"content": text, "prompt": text}


def test_every_text_comes_back_from_its_tokens(tokenizer: Tokenizer) -> None:
    rng = random.Random(5)
    parts = ["the", " ", "  ", "inn", "<s>", "</s>", "é", "🤗", "\n", "<0x41>", "a", "."]
    for _ in range(500):
        text = "".join(rng.choices(parts, k=rng.randrange(1, 12)))
        ids = tokenizer.encode(text, add_special=False, parse_special=True)
        assert tokenizer.spelled(ids) == text, (text, ids)


@pytest.mark.parametrize("bad", [[-1], [10**9], [2**70], ["5"], [1.5], [None], [[5]], "5", {"a": 1}, [True]])
def test_ids_that_are_none_are_a_400(server: ServerProcess, bad: Any) -> None:
    assert refused(server, "/detokenize", tokens=bad)["param"] == "tokens"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "content": "a"}, "content"),
        ({"prompt": "a", "messages": CHAT}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"content": ["a"]}, "content"),
        ({"messages": []}, "messages"),
        ({"messages": CHAT, "chat_template_kwargs": 5}, "chat_template_kwargs"),
        ({"prompt": "a", "with_pieces": "yes"}, "with_pieces"),
        ({"prompt": "\ud800"}, "prompt"),
    ],
)
def test_a_body_that_names_no_text_is_told_so(server: ServerProcess, body: Any, param: str) -> None:
    assert refused(server, "/tokenize", **body)["param"] == param


def test_another_model_is_a_404_on_every_route(server: ServerProcess) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]}),
                       ("/apply-template", {"messages": CHAT})):  # fmt: skip
        answer = httpx.post(server.url + path, json=body | {"model": "other"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_the_tokenizer_s_facts_are_its_file_s(server: ServerProcess, tokenizer: Tokenizer) -> None:
    info = httpx.get(server.url + "/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["unk_token"]) == ("<s>", "</s>", "<unk>")
    assert (info["model_max_length"], info["vocab_size"]) == (512, tokenizer.n_vocab)
    assert info["add_bos_token"] is True
    assert "messages" in info["chat_template"]


def test_other_threads_run_while_long_lists_are_told(tokenizer: Tokenizer) -> None:
    ids = list(range(tokenizer.n_vocab)) * 2000
    assert share_of_longest_pause(lambda: json_list(ids, lambda i: {"id": i}, threading.Event())) < 0.6
    assert share_of_longest_pause(lambda: tokenizer.spelled(ids)) < 0.6


def test_nobody_works_on_for_a_client_that_has_left() -> None:
    gone = threading.Event()
    gone.set()
    with pytest.raises(RequestError):
        json_list([1, 2, 3], int, gone)
    assert json_list([], int, gone) == "[]"
