"""Several answers to one prompt, what is told of their tokens, and how prompts are repeated, continued and cut."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.chat_templates import CHATML
from support.server_process import ServerProcess, running_server
from support.tiny_models import write_tiny_llama
from support.vocabularies import CONTROL, bpe_metadata

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "the inn"}]
PLAIN: dict[str, Any] = {"max_tokens": 6, "ignore_eos": True, "temperature": 1, "seed": 11}
FIM = [("<|fim_prefix|>", CONTROL), ("<|fim_suffix|>", CONTROL), ("<|fim_middle|>", CONTROL)]


@pytest.fixture(scope="module", params=["spm", "bpe"])
def server(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    path = tiny_model
    if request.param == "bpe":
        path = tmp_path_factory.mktemp("models") / "bpe.gguf"
        vocabulary = bpe_metadata(more=[*FIM, ("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL)])
        write_tiny_llama(path, vocabulary=vocabulary, metadata={"tokenizer.chat_template": CHATML})
    with running_server(path) as running:
        yield running


def post(server: ServerProcess, route: str, **fields: Any) -> dict[str, Any]:
    body = ({"messages": USER} if route == CHAT else {"prompt": "the inn"}) | PLAIN | fields
    answer = httpx.post(server.url + route, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(server: ServerProcess, route: str, **fields: Any) -> list[dict[str, Any]]:
    body = (
        ({"messages": USER} if route == CHAT else {"prompt": "the inn"}) | PLAIN | fields | {"stream": True}
    )
    answer = httpx.post(server.url + route, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-2]]


def refused(server: ServerProcess, route: str, **fields: Any) -> str:
    body = ({"messages": USER} if route == CHAT else {"prompt": "the inn"}) | PLAIN | fields
    answer = httpx.post(server.url + route, json=body, timeout=60)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["param"]


def text_of(choice: dict[str, Any]) -> str:
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_answer_i_of_n_is_the_answer_of_seed_plus_i(server: ServerProcess, route: str) -> None:
    several = post(server, route, n=3)
    alone = [post(server, route, seed=11 + i) for i in range(3)]
    assert [text_of(c) for c in several["choices"]] == [text_of(a["choices"][0]) for a in alone]
    assert [c["index"] for c in several["choices"]] == [0, 1, 2]
    # A prompt counts once.
    assert several["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    assert several["usage"]["completion_tokens"] == 18


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_several_answers_stream_each_to_its_end(server: ServerProcess, route: str) -> None:
    whole = post(server, route, n=3)["choices"]
    streamed = events(server, route, n=3)
    texts = ["", "", ""]
    reasons: list[str | None] = [None] * 3
    for event in streamed:
        for choice in event["choices"]:
            index = choice["index"]
            assert reasons[index] is None, "an event after the last one"
            texts[index] += choice["delta"].get("content", "") if route == CHAT else choice["text"]
            reasons[index] = choice["finish_reason"]
    assert texts == [text_of(choice) for choice in whole]
    assert reasons == ["length"] * 3


def test_each_prompt_has_its_n_answers(server: ServerProcess) -> None:
    both = post(server, TEXT, prompt=["the inn", "a ship"], n=2)["choices"]
    alone = [post(server, TEXT, prompt=prompt, n=2)["choices"] for prompt in ("the inn", "a ship")]
    assert [c["text"] for c in both] == [c["text"] for answers in alone for c in answers]


def test_the_best_of_several_is_the_likeliest(server: ServerProcess) -> None:
    every = post(server, TEXT, n=5, logprobs=0)["choices"]
    sums = {c["text"]: sum(c["logprobs"]["token_logprobs"]) for c in every}
    best = post(server, TEXT, n=2, best_of=5)
    assert [c["text"] for c in best["choices"]] == sorted(sums, key=lambda text: -sums[text])[:2]
    assert best["usage"]["completion_tokens"] == 30
    assert refused(server, TEXT, n=2, best_of=3, stream=True) == "best_of"
    assert refused(server, TEXT, n=3, best_of=2) == "best_of"


def test_too_many_answers_are_refused(server: ServerProcess) -> None:
    assert refused(server, CHAT, n=129) == "n"
    assert refused(server, CHAT, n=0) == "n"
    assert refused(server, TEXT, prompt=["a"] * 100, n=2) == "n"


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_a_stream_tells_the_log_probabilities_of_the_whole_answer(server: ServerProcess, route: str) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 4} if route == CHAT else {"logprobs": 4}
    whole = post(server, route, **asked)["choices"][0]["logprobs"]
    told = [
        c["logprobs"] for event in events(server, route, **asked) for c in event["choices"] if c["logprobs"]
    ]
    for key in whole:
        if whole[key] is not None:
            assert [entry for part in told for entry in part[key]] == whole[key]


def test_chat_entries_have_bytes_whose_text_is_the_answer(server: ServerProcess) -> None:
    for seed in range(4):
        choice = post(server, CHAT, logprobs=True, top_logprobs=20, max_tokens=20, seed=seed)["choices"][0]
        entries = choice["logprobs"]["content"]
        data = b"".join(bytes(entry["bytes"]) for entry in entries)
        assert data.decode("utf-8", "replace") == choice["message"]["content"]
        for entry in entries:
            assert bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"]
            assert entry["logprob"] <= 0
            top = [one["logprob"] for one in entry["top_logprobs"]]
            assert top == sorted(top, reverse=True)
            assert len(top) == 20
    assert refused(server, CHAT, top_logprobs=2) == "top_logprobs"
    assert refused(server, CHAT, logprobs=True, top_logprobs=21) == "top_logprobs"


def test_completion_tokens_stand_where_their_offsets_say(server: ServerProcess) -> None:
    choice = post(server, TEXT, logprobs=3, max_tokens=20, echo=True)["choices"][0]
    told = choice["logprobs"]
    assert choice["text"].startswith("the inn")
    ends = [*told["text_offset"][1:], len(choice["text"])]
    for token, offset, end in zip(told["tokens"], told["text_offset"], ends, strict=True):
        # A character that the token before left unfinished is shown with this one.
        assert "\ufffd" in token or choice["text"][offset:end].endswith(token)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    for token, value, top in zip(
        told["tokens"][1:], told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True
    ):
        assert top[token] == pytest.approx(value, abs=1e-6) or top[token] > value  # two tokens of one text
        assert 3 <= len(top) + 1 <= 5 or len(top) < 3


def test_an_echo_scores_a_continuation_as_generating_it_would(server: ServerProcess) -> None:
    """How evaluation harnesses score texts: the prompt's own log-probabilities, and nothing new."""
    made = post(server, TEXT, logprobs=0, temperature=0)["choices"][0]
    ids = post(server, TEXT, temperature=0, return_token_ids=True)["choices"][0]
    scored = post(
        server,
        TEXT,
        prompt=[*ids["prompt_token_ids"], *ids["token_ids"]],
        echo=True,
        logprobs=0,
        max_tokens=0,
    )
    n = len(ids["token_ids"])
    assert scored["choices"][0]["logprobs"]["token_logprobs"][-n:] == made["logprobs"]["token_logprobs"]
    assert scored["usage"]["completion_tokens"] == 0
    assert scored["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_a_prompts_log_probabilities_are_told_by_token(server: ServerProcess, route: str) -> None:
    told = post(server, route, prompt_logprobs=2, return_token_ids=True)
    holder = told if route == CHAT else told["choices"][0]
    ids, entries = holder["prompt_token_ids"], holder["prompt_logprobs"]
    assert entries[0] is None
    assert len(entries) == len(ids)
    assert all(str(token_id) in entry for token_id, entry in zip(ids[1:], entries[1:], strict=True))
    assert all({1, 2} <= {one["rank"] for one in entry.values()} for entry in entries[1:])
    assert refused(server, route, prompt_logprobs=2, stream=True) == "prompt_logprobs"


def test_token_ids_of_a_stream_are_those_of_the_answer(server: ServerProcess) -> None:
    whole = post(server, CHAT, return_token_ids=True)
    streamed = events(server, CHAT, return_token_ids=True)
    assert streamed[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    ids = [i for event in streamed for choice in event["choices"] for i in choice["token_ids"]]
    assert ids == whole["choices"][0]["token_ids"]
    assert len(ids) == 6
    entries = post(server, CHAT, logprobs=True, return_tokens_as_token_ids=True)["choices"][0]["logprobs"][
        "content"
    ]
    assert [entry["token"] for entry in entries] == [f"token_id:{i}" for i in ids]


def test_the_stop_that_ended_an_answer_is_named_and_kept_on_request(server: ServerProcess) -> None:
    free = post(server, TEXT, max_tokens=40)["choices"][0]
    stop = free["text"][5:7]
    cut = post(server, TEXT, max_tokens=40, stop=[stop])["choices"][0]
    kept = post(server, TEXT, max_tokens=40, stop=[stop], include_stop_str_in_output=True)["choices"][0]
    assert free["text"].startswith(kept["text"])
    assert kept["text"] == cut["text"] + stop
    assert (cut["finish_reason"], cut["stop_reason"]) == ("stop", stop)
    ids = post(server, TEXT, max_tokens=40, return_token_ids=True)["choices"][0]["token_ids"]
    at = next(i for i, token_id in enumerate(ids) if i > 2 and token_id not in ids[:i])
    ended = post(server, TEXT, max_tokens=40, stop_token_ids=[ids[at]], return_token_ids=True)["choices"][0]
    assert (ended["token_ids"], ended["finish_reason"], ended["stop_reason"]) == (ids[:at], "stop", ids[at])


def test_log_probabilities_end_where_a_stop_cuts_the_text(server: ServerProcess) -> None:
    free = post(server, TEXT, max_tokens=40, logprobs=0)["choices"][0]
    stop = free["text"][5:7]
    cut = post(server, TEXT, max_tokens=40, logprobs=0, stop=[stop])["choices"][0]
    n = len(cut["logprobs"]["tokens"])
    assert cut["logprobs"]["tokens"] == free["logprobs"]["tokens"][:n]
    assert all(offset < max(len(cut["text"]), 1) for offset in cut["logprobs"]["text_offset"])


def test_bad_words_do_not_come(server: ServerProcess) -> None:
    free = post(server, TEXT, max_tokens=30, temperature=0)["choices"][0]["text"]
    word = free.strip()[:2]
    assert (
        word
        not in post(server, TEXT, max_tokens=1, temperature=0, bad_words=[word])["choices"][0]["text"][:2]
    )
    assert refused(server, TEXT, bad_words=["x" * 101]) == "bad_words"


def test_a_message_is_continued_where_it_ends(server: ServerProcess) -> None:
    begun = [*USER, {"role": "assistant", "content": "Once upon"}]
    ids = post(server, CHAT, messages=begun, continue_final_message=True, return_token_ids=True)
    closed = post(server, CHAT, messages=begun, return_token_ids=True)
    assert len(ids["prompt_token_ids"]) < len(closed["prompt_token_ids"])
    n = len(ids["prompt_token_ids"])
    # What the template writes up to there is the same, but for a token that the cut may have halved.
    assert ids["prompt_token_ids"][: n - 2] == closed["prompt_token_ids"][: n - 2]
    echoed = post(server, CHAT, messages=begun, continue_final_message=True, echo=True)
    content = ids["choices"][0]["message"]["content"]
    assert echoed["choices"][0]["message"]["content"] == "Once upon" + content
    streamed = events(server, CHAT, messages=begun, continue_final_message=True, echo=True)
    deltas = [choice["delta"].get("content", "") for event in streamed for choice in event["choices"]]
    assert "".join(deltas) == "Once upon" + content
    assert refused(server, CHAT, continue_final_message=True) == "continue_final_message"
    assert refused(server, CHAT, messages=begun, echo=True) == "echo"


def test_without_a_generation_prompt_the_prompt_ends_with_the_messages(server: ServerProcess) -> None:
    with_it = post(server, CHAT, return_token_ids=True)["prompt_token_ids"]
    without = post(server, CHAT, return_token_ids=True, add_generation_prompt=False)["prompt_token_ids"]
    assert with_it[: len(without)] == without
    assert len(without) < len(with_it)


def test_a_prompt_is_cut_to_the_tokens_that_are_kept(server: ServerProcess) -> None:
    ids = list(range(10, 40))
    kept = post(server, TEXT, prompt=ids, truncate_prompt_tokens=5, return_token_ids=True)["choices"][0]
    assert kept["prompt_token_ids"] == ids[-5:]
    right = post(
        server, TEXT, prompt=ids, truncate_prompt_tokens=5, truncation_side="right", return_token_ids=True
    )
    assert right["choices"][0]["prompt_token_ids"] == ids[:5]
    long = "the inn " * 2000
    told = post(server, TEXT, prompt=long, truncate_prompt_tokens=-1, max_tokens=7)
    assert told["usage"]["prompt_tokens"] == 512 - 7
    assert told["usage"]["completion_tokens"] == 7


def test_timings_and_progress_are_told_on_request(server: ServerProcess) -> None:
    whole = post(server, CHAT)
    assert whole["timings"]["predicted_n"] == 6
    assert whole["timings"]["prompt_n"] == whole["usage"]["prompt_tokens"]
    streamed = events(server, CHAT, timings_per_token=True, return_progress=True)
    assert all("timings" in event for event in streamed)
    counted = events(server, CHAT, timings_per_token=True, stream_options={"include_usage": True})[-1]
    assert (counted["choices"], counted["timings"]["predicted_n"]) == ([], 6)
    [progress] = [event["prompt_progress"] for event in streamed if "prompt_progress" in event]
    assert progress["processed"] == progress["total"] == whole["usage"]["prompt_tokens"]


def test_a_suffix_needs_a_model_that_fills_in_a_middle(server: ServerProcess) -> None:
    body = {"prompt": "def f(", "suffix": "return x"} | PLAIN
    answer = httpx.post(server.url + TEXT, json=body)
    if answer.status_code == 400:
        assert answer.json()["error"]["param"] == "suffix"
        return
    ids = post(server, TEXT, prompt="def f(", suffix="return x", return_token_ids=True)["choices"][0]
    pieces = [
        httpx.post(f"{server.url}/detokenize", json={"tokens": [i]}).json()["content"]
        for i in ids["prompt_token_ids"]
    ]
    assert len(pieces) > 5
    assert refused(server, TEXT, suffix="x", echo=True) == "echo"
