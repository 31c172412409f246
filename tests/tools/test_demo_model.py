"""The demo model that ships: what it is, what it answers, and that `espalier serve` without a model serves it."""

import re

import httpx
import pytest

from engine import LoadedModel, load_model
from kernels.ops import Ops
from support.server_process import running_server
from tools.demo import DEMO_MODEL
from tools.demo.corpus import load_corpus
from tools.demo.judge import MAX_TOKENS, chat_answers, respond, single_answers

LARGEST_FILE = 4 << 20  # bytes


@pytest.fixture(scope="module")
def demo(cpu_ops: Ops) -> LoadedModel:
    return load_model(DEMO_MODEL, cpu_ops)


def test_it_is_small_and_every_matrix_of_its_blocks_is_iq4_kt(demo: LoadedModel) -> None:
    assert DEMO_MODEL.stat().st_size <= LARGEST_FILE
    assert demo.name == "espalier-demo"
    assert demo.type_names == ("IQ4_KT", "Q8_0")  # Q8_0: the embedding, which is also the output


def test_nine_of_ten_held_out_questions_get_the_right_fact_and_every_answer_ends(demo: LoadedModel) -> None:
    answers = single_answers(demo)
    wrong = [(a["ask"], a["answer"]) for a in answers if not a["right"]]
    assert len(wrong) <= len(answers) // 10, wrong
    assert all(a["ended"] for a in answers)


def test_held_out_chats_stay_on_topic_and_every_turn_ends(demo: LoadedModel) -> None:
    """Two of the seventeen turns may be off."""
    turns = [turn for chat in chat_answers(demo) for turn in chat["turns"]]
    wrong = [(turn["ask"], turn["answer"]) for turn in turns if not turn["right"]]
    assert len(wrong) <= 2, wrong
    assert all(turn["ended"] for turn in turns)


def test_no_answer_of_the_corpus_is_longer_than_an_answer_may_be(demo: LoadedModel) -> None:
    assert demo.tokenizer is not None
    for topic in load_corpus().topics.values():
        for answer in filter(None, (*topic.answers, topic.more)):
            assert len(demo.tokenizer.encode(answer, add_special=False, parse_special=False)) < MAX_TOKENS, (
                topic.name
            )


@pytest.mark.parametrize("greeting", ["Hello!", "hi", "Good morning!", "Hello! What are you?"])
def test_a_greeting_is_answered_in_a_whole_sentence(demo: LoadedModel, greeting: str) -> None:
    ((answer, ended),) = respond(demo, [[{"role": "user", "content": greeting}]])
    assert ended
    assert re.fullmatch(r"[A-Z].*demo.*[.?!]", answer), answer


def test_serve_without_a_model_serves_the_demo() -> None:
    with running_server(None) as server:
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "espalier-demo"
        asked = {"messages": [{"role": "user", "content": "Hello! What are you?"}], "temperature": 0}
        choice = httpx.post(f"{server.url}/v1/chat/completions", json=asked).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["content"].startswith("I am")
        said = "\n".join(server.lines)
    for words in (
        "espalier-demo",
        "IQ4_KT",
        "bits per weight",
        "cpu, ",
        "2 threads",
        "KV cache holds",
        "curl -N",
    ):
        assert words in said
