"""What restricts a request's answers besides its sampling parameters: guides, made anew for each choice."""

from collections.abc import Callable, Iterable, Sequence

from engine.constraints import Constraint
from engine.guides.bad_words import BadWords
from engine.guides.combined import together
from engine.guides.guide import Guide
from engine.guides.thoughts import ThoughtGuide, ThoughtTokens
from engine.text.tokenizer import Tokenizer
from server.generations.prompts import Prompt
from server.reading import ThoughtsOf

MakeGuide = Callable[[Prompt], Guide]


def guides_of(makers: Sequence[MakeGuide | None]) -> Callable[[Prompt], Guide | None] | None:
    """One maker for all of them; None where nothing restricts."""
    given = [make for make in makers if make is not None]
    if not given:
        return None
    return lambda prompt: together([make(prompt) for make in given])


def bad_words(tokenizer: Tokenizer, words: Iterable[str]) -> MakeGuide | None:
    """None for no words. A word is two sequences of tokens: at the start of a text, and after a space."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special=False, parse_special=False))

    sequences = {ids(text) for word in words for text in (word, f" {word.lstrip()}")} - {()}
    return (lambda _: BadWords(sorted(sequences))) if sequences else None


def form(tokenizer: Tokenizer, constraint: Constraint | None) -> MakeGuide | None:
    """None for an answer of any form."""

    def made(prompt: Prompt) -> Guide:
        assert constraint is not None
        return constraint.guide(hides_space=prompt.hides_space(tokenizer))

    return None if constraint is None else made


def after_thoughts(
    tokenizer: Tokenizer, thoughts: ThoughtsOf, budget: int | None, shaped: MakeGuide | None
) -> MakeGuide | None:
    """A form begins after the thoughts, which end when their budget is used up. Both at most."""
    marks = thoughts.marks
    if marks is None or (budget is None and (shaped is None or not thoughts.may_be)):
        return shaped
    tokens = ThoughtTokens.of(tokenizer, marks)

    def made(prompt: Prompt) -> Guide:
        return ThoughtGuide(
            tokenizer,
            tokens,
            starts_thinking=thoughts.is_open,
            may_think=thoughts.may_be,
            budget=budget,
            inner=None if shaped is None else shaped(prompt),
        )

    return made
