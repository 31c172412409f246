"""The demo's corpus: what it may never hold, that a seed decides it, and that what it says is true of the program."""

import random
import re
from itertools import islice

import pytest
import typer

from server.settings import Settings
from tools.cli import app
from tools.demo.corpus import (
    Split,
    conversations,
    expanded,
    held_out,
    held_out_questions,
    is_held_out,
    load_corpus,
    normalized,
)
from tools.demo.paraphrase import varied

N_DRAWN = {"train": 2000, "validation": 100}  # conversations; one question in forty is of the latter
ANSWERS = [(topic.name, answer) for topic in load_corpus().topics.values() for answer in topic.answers]


def questions(seed: int, split: Split) -> set[str]:
    drawn = islice(conversations(seed, split), N_DRAWN[split])
    return {normalized(m["content"]) for messages in drawn for m in messages if m["role"] == "user"}


def test_nothing_held_out_is_ever_drawn() -> None:
    seed = random.randrange(1 << 30)
    drawn = questions(seed, "train") | questions(seed, "validation")
    assert len(drawn) > N_DRAWN["train"]  # most questions are unlike any other
    assert not drawn & held_out_questions(), seed


@pytest.mark.parametrize("item", held_out()["questions"], ids=lambda item: item["ask"][:30])
def test_a_held_out_question_with_a_word_added_is_held_out_too(item: dict) -> None:
    """Only where it has words enough: a short one with a word added is another question."""
    assert is_held_out(item["ask"].upper())
    if len(set(normalized(item["ask"]).split())) >= 6:
        assert is_held_out(item["ask"] + " Please!")


def test_training_and_validation_share_no_question() -> None:
    seed = random.randrange(1 << 30)
    assert not questions(seed, "train") & questions(seed, "validation"), seed


def test_a_seed_decides_every_conversation() -> None:
    seed = random.randrange(1 << 30)
    once, again, other = (list(islice(conversations(s, "train"), 50)) for s in (seed, seed, seed + 1))
    assert once == again
    assert once != other


def test_every_pattern_makes_a_sentence_and_every_follow_up_has_a_topic() -> None:
    """Every slot is known, every bracket closed, and no wording is empty."""
    corpus, rng = load_corpus(), random.Random()
    for topic in corpus.topics.values():
        assert topic.answers, topic.name
        for pattern in (
            *(p for patterns in topic.questions.values() for p in patterns),
            *dict(topic.follows),
        ):
            question = varied(expanded(pattern, corpus.slots, rng), rng)
            assert normalized(question), pattern
            assert not set(question) & set("[]{}|"), (pattern, question)
        for _, name in topic.follows:
            assert name in corpus.topics, (topic.name, name)


@pytest.mark.parametrize(("topic", "answer"), ANSWERS, ids=[name for name, _ in ANSWERS])
def test_commands_flags_and_variables_in_an_answer_exist(topic: str, answer: str) -> None:
    commands = typer.main.get_command(app).commands
    for command in re.findall(r"\bespalier (serve|chat|perplexity|bench|inspect|quantize|imatrix)\b", answer):
        assert command in commands
    flags = {flag for command in commands.values() for option in command.params for flag in option.opts}
    for flag in re.findall(r"--[a-z][\w-]+", answer):
        assert flag in flags | {"--help"}, flag
    for variable in re.findall(r"ESPALIER_(\w+)", answer):
        assert variable.lower() in Settings.__dataclass_fields__, variable


@pytest.mark.parametrize(
    ("topic", "word"),
    [
        ("port", f":{Settings.port}"),
        ("port", Settings.host),
        ("batching", f"{Settings.max_batch} by default"),
        ("stop-server", f"{Settings.drain_seconds:.0f} seconds"),
    ],
)
def test_defaults_in_the_answers_are_those_of_the_settings(topic: str, word: str) -> None:
    assert word in load_corpus().topics[topic].answers[0]
