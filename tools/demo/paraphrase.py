"""How people vary a question: openers, contractions, other words for the same, haste, a slip of the finger."""

import random
import re

from tools.demo.frames import frames

#: "Tell me more", which every topic with something to add understands.
MORE = (
    "[Tell|Can you tell|Could you tell|Please tell] me [more|a bit more|more about it|more about that]",
    "[More|More, please|And more|Go on|Continue|Details, please|Please go on].",
    "[Can|Could] you [elaborate|explain that|say more|go on|explain more]",
    "[Is there|Do you know] [more|anything else|anything more] [about it|about that|to say|]",
    "[What else|Anything else|What more can you say about it]",
    "[I want|I would like] [more details|to know more|to hear more].",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful, honest assistant. Answer briefly.",
    "You are a friendly chatbot.",
    "Answer the user's questions.",
    "Be brief.",
    "You are the demo model of Espalier.",
    "You are an AI assistant that helps people find information.",
)
_FILLERS = (
    "actually", "really", "just", "maybe", "perhaps", "please", "also", "exactly", "possibly", "quickly",
    "then", "now",
)  # fmt: skip
_LIGHT_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the is are do does did can could would will shall should i you it to of for in on at please tell me my"
        " your there that this be have has get so well and or",
    )
)
_SHORT_FORMS = {
    "please": "pls", "you": "u", "are": "r", "your": "ur", "thanks": "thx", "want to": "wanna", "going to": "gonna",
    "what is": "whats", "because": "cuz", "about": "abt", "cannot": "cant", "i am": "im",
    "do not": "dont", "with": "w/", "and": "&", "people": "ppl", "for": "4", "to": "2", "tomorrow": "tmrw",
}  # fmt: skip
_SHORT_FORM = re.compile(
    r"\b(" + "|".join(sorted(_SHORT_FORMS, key=len, reverse=True)) + r")\b", re.IGNORECASE
)
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_CONTRACTIONS = (
    ("What is", "What's"), ("Who is", "Who's"), ("Where is", "Where's"), ("How is", "How's"), ("I am", "I'm"),
    ("do not", "don't"), ("cannot", "can't"), ("I would", "I'd"), ("it is", "it's"), ("that is", "that's"),
    ("You are", "You're"), ("does not", "doesn't"), ("I have", "I've"), ("is not", "isn't"), ("I will", "I'll"),
)  # fmt: skip
#: A beginning, and what people say instead.
_BEGINNINGS = (
    ("How do I ", (
        "How can I ", "How would I ", "How to ", "How could I ", "Tell me how to ",
        "Could you tell me how to ", "Please explain how to ", "I want to know how to ",
        "Is there a way to ", "What do I do to ", "How does one ", "How should I ", "I would like to ",
        "What is the way to ", "Explain how to ", "Do you know how to ", "What is needed to ",
        "How might I ", "I need to ", "What is the best way to ", "Show me how to ",
    )),
    ("How can I ", (
        "How do I ", "How could I ", "How would I ", "Tell me how I can ",
    )),
    ("Can I ", (
        "Could I ", "May I ", "Is it possible to ", "Am I able to ", "Is there a way to ",
        "Would I be able to ",
    )),
    ("Can you ", (
        "Could you ", "Would you ", "Are you able to ", "Will you ",
    )),
    ("Does it ", (
        "Will it ", "Can it ", "Would it ", "Could it ",
    )),
    ("Which ", (
        "What ", "And which ", "Tell me which ", "Do you know which ",
    )),
    ("What does ", (
        "Tell me what does ", "And what does ", "Do you know what does ",
    )),
    ("Tell me ", (
        "Please tell me ", "Could you tell me ", "Can you tell me ", "I want you to tell me ",
    )),
    ("Give me ", (
        "Please give me ", "Could you give me ", "I need ", "I would like ", "Show me ",
    )),
    ("I want to ", (
        "I would like to ", "I need to ", "I wish to ", "I have to ", "I plan to ", "I am trying to ",
    )),
)  # fmt: skip
_SYNONYMS = {
    "the server": ("this server", "your server", "Espalier"), "large": ("big", "huge"), "big": ("large", "huge"),
    "start": ("launch", "run", "begin"), "answers": ("replies", "responses"), "answer": ("reply", "response"),
    "need": ("require",), "change": ("modify", "adjust", "alter"), "show": ("display",), "explain": ("clarify",),
    "computer": ("machine", "PC", "laptop", "box"), "machine": ("computer", "PC", "system", "laptop", "box"),
    "GPU": ("graphics card", "gpu", "NVIDIA card"), "speed": ("performance",), "file": ("model file",),
    "use": ("employ", "take", "work with"), "models": ("language models",), "questions": ("things",),
    "set": ("define", "choose"), "threads": ("cores", "CPU threads"), "memory": ("RAM",), "fast": ("quick", "speedy"),
    "possible": ("doable", "feasible"), "several": ("many", "multiple", "a few"), "stop": ("end", "shut down"),
}  # fmt: skip
_SYNONYM = re.compile(r"\b(" + "|".join(sorted(_SYNONYMS, key=len, reverse=True)) + r")\b")


def varied(question: str, rng: random.Random) -> str:
    """The question as somebody else would type it. The meaning stays; sometimes care does not."""
    if rng.random() < 0.3:
        question = _begun_otherwise(question, rng)
    question = _SYNONYM.sub(lambda m: rng.choice(_SYNONYMS[m[1]]) if rng.random() < 0.2 else m[1], question)
    if rng.random() < 0.4:
        for long, short in _CONTRACTIONS:
            question = question.replace(long, short)
    if rng.random() < 0.25:
        question = f"{rng.choice(frames('<'))} {_uncapitalized(question)}"
    if rng.random() < 0.15:
        question = _closed(question, rng.choice(frames(">")))
    return _hasty(" ".join(_other_words(question.split(" "), rng)), rng)


def _other_words(words: list[str], rng: random.Random) -> list[str]:
    """A word more, a word less, or only the words that carry something."""
    if rng.random() < 0.08:
        words.insert(rng.randrange(len(words)), rng.choice(_FILLERS))
    if rng.random() < 0.08 and len(words) > 4:
        del words[rng.randrange(len(words))]
    if rng.random() < 0.05 and len(words) > 4:
        words = [word for word in words if word.lower().strip(",.?!") not in _LIGHT_WORDS] or words
    return words


def _begun_otherwise(question: str, rng: random.Random) -> str:
    for beginning, others in _BEGINNINGS:
        if question.startswith(beginning):
            return rng.choice(others) + question[len(beginning) :]
    return question


def _uncapitalized(question: str) -> str:
    """Without the capital of a sentence's first word; names and I keep theirs."""
    first = question.split(" ", maxsplit=1)[0]
    keeps = first[1:] != first[1:].lower() or first.rstrip(",.!?'md") in ("I", "Espalier", "Python", "Llama")
    return question if keeps else question[0].lower() + question[1:]


def _closed(question: str, closer: str) -> str:
    if closer[0].islower():
        return f"{question[:-1]}, {closer}" if question[-1] in "?." else question
    return f"{question} {closer}"


def _hasty(question: str, rng: random.Random) -> str:
    """Lower case, no mark at the end, short forms, slips of the finger."""
    if rng.random() < 0.2:
        question = question.lower()
    if rng.random() < 0.25:
        question = question.rstrip("?.!") or question
    if rng.random() < 0.06:
        question = _SHORT_FORM.sub(lambda match: _SHORT_FORMS[match[1].lower()], question)
    if rng.random() < 0.15:
        for _ in range(rng.choice((1, 1, 2))):
            question = _mistyped(question, rng)
    return question


def _mistyped(text: str, rng: random.Random) -> str:
    """Two letters in the wrong order, one missing, one twice, or one instead of its neighbour."""
    at = rng.randrange(len(text))
    here, following = text[at], text[at + 1 : at + 2]
    return (
        text[:at]
        + rng.choice((following + here, following, here * 2 + following, _slipped(here, rng) + following))
        + text[at + 2 :]
    )


def _slipped(letter: str, rng: random.Random) -> str:
    """A key beside the right one."""
    for row in _KEY_ROWS:
        at = row.find(letter.lower())
        if at >= 0:
            return row[max(at + rng.choice((-1, 1)), 0) :][:1] or letter
    return letter
