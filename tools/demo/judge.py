"""What the engine says of a demo model: python -m tools.demo.judge [MODEL].

The held-out questions and chats at temperature 0, judged by the keywords beside them, and the perplexity of answers
to questions of the validation split.
"""

import itertools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engine import Engine, EngineConfig, LoadedModel, SamplingParams, load_model
from kernels import load_backend
from tools.demo import DEMO_MODEL
from tools.demo.batches import Encoder
from tools.demo.corpus import Message, conversations, held_out
from tools.model_runs import SequenceRuns
from tools.perplexity import negative_log_likelihoods

MAX_TOKENS = 120  # an answer that has not ended by then never will
VALIDATION_SEED, N_CONVERSATIONS = 11, 200


def judge(path: Path) -> dict[str, Any]:
    """Perplexity, and how many held-out answers are right and end by themselves."""
    loaded = load_model(path, load_backend("cpu"))
    answers = [*single_answers(loaded), *(turn for chat in chat_answers(loaded) for turn in chat["turns"])]
    n_single = len(held_out()["questions"])
    return {
        "file_bytes": path.stat().st_size,
        "answer_perplexity": round(answer_perplexity(loaded), 5),
        "right_answers": f"{sum(a['right'] for a in answers[:n_single])} of {n_single}",
        "right_turns": f"{sum(a['right'] for a in answers[n_single:])} of {len(answers) - n_single}",
        "ended": f"{sum(a['ended'] for a in answers)} of {len(answers)}",
    }


def single_answers(loaded: LoadedModel) -> list[dict[str, Any]]:
    """The held-out questions, all in one batch: what was answered, whether it is right, whether it ended."""
    items = held_out()["questions"]
    replies = respond(loaded, [[{"role": "user", "content": item["ask"]}] for item in items])
    return [_judged(item, *reply) for item, reply in zip(items, replies, strict=True)]


def chat_answers(loaded: LoadedModel) -> list[dict[str, Any]]:
    """The held-out chats, turn by turn, each with the model's own answers before it."""
    judged = []
    for chat in held_out()["chats"]:
        messages: list[Message] = []
        turns = []
        for item in chat["turns"]:
            messages.append({"role": "user", "content": item["ask"]})
            (reply,) = respond(loaded, [messages])
            messages.append({"role": "assistant", "content": reply[0]})
            turns.append(_judged(item, *reply))
        judged.append({"name": chat["name"], "turns": turns})
    return judged


def respond(loaded: LoadedModel, chats: list[list[Message]]) -> list[tuple[str, bool]]:
    """The greedy answer to each chat, and whether the model ended it itself."""
    assert loaded.chat_template is not None
    assert loaded.tokenizer is not None
    engine = Engine(loaded, EngineConfig(kv_memory_bytes=64 << 20))
    ids: dict[str, list[int]] = {}
    reasons: dict[str, str | None] = {}
    for number, messages in enumerate(chats):
        ids[str(number)] = []
        prompt = loaded.chat_template.encode(messages)
        engine.add(str(number), prompt, SamplingParams(temperature=0, max_tokens=MAX_TOKENS))
    while engine.has_work:
        for event in engine.step():
            ids[event.request_id] += event.token_ids
            reasons[event.request_id] = event.finish_reason
    return [(loaded.tokenizer.decode(ids[name]), reasons[name] == "stop") for name in ids]


def answer_perplexity(loaded: LoadedModel) -> float:
    """Of the answers' tokens alone, in conversations whose every question is of the validation split."""
    assert loaded.tokenizer is not None
    assert loaded.chat_template is not None
    encoder = Encoder(loaded.tokenizer, loaded.chat_template)
    losses = []
    for messages in itertools.islice(conversations(VALIDATION_SEED, "validation"), N_CONVERSATIONS):
        ids, said = encoder.encode(messages)
        logits = SequenceRuns(loaded, 1, len(ids)).run([ids[:-1]], 0, len(ids) - 1)
        losses.append(negative_log_likelihoods(logits, np.array(ids[1:]))[np.array(said[1:])])
    return math.exp(np.concatenate(losses).mean())


def states(answer: str, keywords: list[str]) -> bool:
    """Whether every entry has one of its alternatives (a|b) in the answer, at the beginning of a word."""
    choices = ("|".join(map(re.escape, entry.split("|"))) for entry in keywords)
    return all(re.search(rf"(?<!\w)(?:{choice})", answer, re.IGNORECASE) for choice in choices)


def _judged(item: dict[str, Any], answer: str, ended: bool) -> dict[str, Any]:
    return {
        "ask": item["ask"],
        "answer": answer,
        "right": states(answer, item["keywords"]),
        "ended": ended,
    }


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO_MODEL
    loaded = load_model(path, load_backend("cpu"))
    singles = single_answers(loaded)
    for answer in (*singles, *(turn for chat in chat_answers(loaded) for turn in chat["turns"])):
        mark = "  " if answer["right"] and answer["ended"] else "! "
        print(f"{mark}{answer['ask']}\n    {answer['answer']}")
    print(json.dumps(judge(path), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
