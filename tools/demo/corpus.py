"""The demo model's corpus: hand-written topics in data/corpus/*.txt, and conversations drawn from them by a seed.

A file holds topics. `## name` begins one; its lines begin with

    -   a way to ask; `[a|b]` is a choice, `{word}` a slot
    v   something one may want to do, n something to know, s how things are: frames.txt makes questions of them
    =   an answer; small talk has several, everything else one, so that doubt is only ever about the question
    +   the answer to "tell me more"
    >   a question that makes sense after this topic only, `=> topic` that answers it
    with  rows of slot values: the topic stands once for each row, `{other}` runs over the other rows' names
    @word: a; b; c   (before any topic) what fills a slot

Nothing held out is ever drawn: neither the questions of held_out.json, nor what shares most of its words with one of
them, nor the validation split.
"""

import json
import random
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from tools.demo.frames import frames
from tools.demo.paraphrase import MORE, SYSTEM_PROMPTS, varied

DATA = Path(__file__).parent / "data"
Split = Literal["train", "validation"]
Message = dict[str, str]

OTHER = "other"  # the topic of everything the model does not know
OTHER_SHARE = 0.18  # of the turns
FOLLOW_SHARE = 0.45  # of the turns after the first one, where the topic has something to follow
SYSTEM_SHARE = 0.08  # of the conversations
TURN_WEIGHTS = (60, 19, 11, 6, 4)  # of conversations with 1, 2, ... turns
VALIDATION_MODULUS = 40  # one question in so many is kept for validation
KIND_WEIGHTS = {"-": 4, "v": 2, "n": 2, "s": 1}  # of a topic's questions
#: A question may share at most this part of its words with a held-out one of ALIKE_WORDS words or more. Shorter ones
#: ("What are you?") are parts of too many others; they are left out word for word.
ALIKE, ALIKE_WORDS = 0.65, 6
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass
class Topic:
    name: str
    questions: dict[str, list[str]] = field(default_factory=dict)  # patterns by kind
    answers: list[str] = field(default_factory=list)
    more: str | None = None
    follows: list[tuple[str, str]] = field(default_factory=list)  # (question, topic)


@dataclass(frozen=True)
class Corpus:
    topics: dict[str, Topic]
    slots: dict[str, list[str]]


@cache
def load_corpus() -> Corpus:
    corpus = Corpus({}, {})
    for path in sorted((DATA / "corpus").glob("*.txt")):
        head, *sections = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, values in re.findall(r"^@(\w+): (.*)$", head, re.MULTILINE):
            corpus.slots[name] = [value.strip() for value in values.split(";")]
        for section in sections:
            corpus.topics.update((topic.name, topic) for topic in _read_topics(section.splitlines()))
    return corpus


@cache
def held_out() -> dict:
    """The questions and chats that judge the model, as data/held_out.json has them."""
    return json.loads((DATA / "held_out.json").read_text(encoding="utf-8"))


@cache
def held_out_questions() -> frozenset[str]:
    """Every held-out question, single or in a chat, normalized."""
    chats = (turn for chat in held_out()["chats"] for turn in chat["turns"])
    return frozenset(normalized(item["ask"]) for item in (*held_out()["questions"], *chats))


@cache
def _held_out_words() -> list[frozenset[str]]:
    words = (frozenset(question.split()) for question in held_out_questions())
    return [each for each in words if len(each) >= ALIKE_WORDS]


def is_held_out(question: str) -> bool:
    """Whether it is a held-out question or nearly one."""
    plain = normalized(question)
    words = frozenset(plain.split())
    near = (len(words & other) >= ALIKE * len(words | other) for other in _held_out_words())
    return plain in held_out_questions() or any(near)


def normalized(question: str) -> str:
    """Lower-case words alone: what makes two questions the same."""
    return " ".join(re.findall(r"[^\W_]+", question.lower()))


def split_of(question: str) -> Split:
    """By a hash of the question itself, so that no wording is in both splits."""
    is_validation = zlib.crc32(normalized(question).encode()) % VALIDATION_MODULUS == 0
    return "validation" if is_validation else "train"


def conversations(seed: int, split: Split) -> Iterator[list[Message]]:
    """Endless. In "train" every question is of the training split, in "validation" of the other."""
    drawer = _Drawer(load_corpus(), random.Random(seed), split)
    while True:
        yield drawer.conversation()


def expanded(pattern: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    """One wording of a pattern: every choice made, every slot filled."""
    while "[" in pattern or "{" in pattern:
        pattern = _SLOT.sub(lambda match: rng.choice(slots[match[1]]), pattern)
        pattern = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), pattern)
    text = re.sub(r" +", " ", pattern).strip()
    text = re.sub(r" ([,.!?])", r"\1", text)
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "?"


class _Drawer:
    def __init__(self, corpus: Corpus, rng: random.Random, split: Split) -> None:
        self._corpus, self._rng, self._split = corpus, rng, split
        self._names = [name for name in corpus.topics if name != OTHER]
        self._weights = [sum(map(len, corpus.topics[name].questions.values())) ** 0.5 for name in self._names]

    def conversation(self) -> list[Message]:
        rng = self._rng
        messages = []
        if rng.random() < SYSTEM_SHARE:
            messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        topic: Topic | None = None
        for _ in range(rng.choices(range(1, 1 + len(TURN_WEIGHTS)), TURN_WEIGHTS)[0]):
            question, answer, topic = self._turn(topic)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages

    def _turn(self, before: Topic | None) -> tuple[str, str, Topic]:
        """(question, answer, the topic that the next turn may follow)."""
        if before is not None and self._rng.random() < FOLLOW_SHARE:
            if before.more and self._rng.random() < 0.3:
                return self._question({"-": MORE}), before.more, before
            if before.follows:
                question, name = self._rng.choice(before.follows)
                topic = self._corpus.topics[name]
                return self._question({"-": [question]}), self._rng.choice(topic.answers), topic
        topic = self._corpus.topics[self._name()]
        return self._question(topic.questions), self._rng.choice(topic.answers), topic

    def _name(self) -> str:
        if self._rng.random() < OTHER_SHARE:
            return OTHER
        return self._rng.choices(self._names, self._weights)[0]

    def _question(self, patterns: Mapping[str, Sequence[str]]) -> str:
        """One of the patterns, worded in one of its ways, that this split may have. patterns: lists by kind."""
        rng, kinds = self._rng, list(patterns)
        for _ in range(5000):
            (kind,) = rng.choices(kinds, [KIND_WEIGHTS[kind] for kind in kinds])
            around = ("{}",) if kind == "-" else frames(kind)
            pattern = rng.choice(around).replace("{}", rng.choice(patterns[kind]))
            question = varied(expanded(pattern, self._corpus.slots, rng), rng)
            if split_of(question) == self._split and not is_held_out(question):
                return question
        raise ValueError(f"no wording of {patterns} is in the {self._split} split")


def _read_topics(lines: list[str]) -> Iterator[Topic]:
    """The topics of one `## name` section: one, or one for each row of its `with` line."""
    rows: list[dict[str, str]] = next((_rows(line[5:]) for line in lines if line.startswith("with ")), [{}])
    for row in rows:
        others = [other for other in rows if other is not row]
        topic = Topic(_filled(lines[0].strip(), row))
        for line in lines[1:]:
            kind, _, text = line.partition(" ")
            if kind in (*KIND_WEIGHTS, "=", "+", ">"):
                _add(topic, kind, _filled(text.strip(), row), others)
        yield topic


def _add(topic: Topic, kind: str, text: str, others: list[dict[str, str]]) -> None:
    match kind:
        case "-" | "v" | "n" | "s":
            topic.questions.setdefault(kind, []).append(text)
        case "=":
            topic.answers.append(text)
        case "+":
            topic.more = text
        case ">" if "{other}" in text:
            filled = (text.replace("{other}", next(iter(other.values()))) for other in others)
            topic.follows += [_follow(line) for line in filled]
        case ">":
            topic.follows.append(_follow(text))


def _follow(text: str) -> tuple[str, str]:
    question, _, topic = text.partition("=>")
    return question.strip(), topic.strip()


def _rows(text: str) -> list[dict[str, str]]:
    rows = (re.findall(r"(\w+)=(\S+)", part) for part in text.split(";"))
    return [dict(row) for row in rows]


def _filled(text: str, row: dict[str, str]) -> str:
    for name, value in row.items():
        text = text.replace("{" + name + "}", value)
    return text
