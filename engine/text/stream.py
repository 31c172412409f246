"""From the ids of a request's steps to the text a client may see: the detokenizer, then the stop strings."""

from collections.abc import Iterable
from typing import NamedTuple

from engine.text.detokenizer import Detokenizer
from engine.text.stop_strings import StopStrings
from engine.text.tokenizer import Tokenizer


class TextDelta(NamedTuple):
    """What some ids gave. An entry of `released` and `produced` for each id that was taken."""

    released: tuple[str, ...]  # the text that is safe to give out from then on
    produced: tuple[int, ...]  # characters that the id added to the text, held back or not
    stopped: bool  # the last id completed a stop string: what follows is overshoot

    @property
    def text(self) -> str:
        return "".join(self.released)

    @property
    def n_tokens(self) -> int:
        """Ids taken, up to and including the one that completed a stop string."""
        return len(self.released)


class Rest(NamedTuple):
    """What is given out at the end of an answer."""

    text: str
    stopped: bool  # the last character of the answer completed a stop string


class TextStream:
    """One request's answer. After a delta that says stopped, nothing more comes out.

    keeps_stop: the stop string that ends the answer is given out too. shown: texts of control tokens that are
    given out as the vocabulary spells them, where other control tokens print nothing.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Iterable[str] = (),
        *,
        skip_leading_space: bool = False,
        keeps_stop: bool = False,
        shown: Iterable[str] = (),
    ) -> None:
        stops, shown = tuple(stops), frozenset(shown)
        self._detokenizer = Detokenizer(tokenizer, skip_leading_space)
        self._stops = StopStrings(stops, keeps_stop=keeps_stop)
        self._spelled = tokenizer.control_tokens_in(stops)
        self._shown = {i for i, text in tokenizer.control_tokens_in(shown).items() if text in shown}
        self._spelled |= {i: tokenizer.piece(i) for i in self._shown}

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.found

    def push(self, token_ids: Iterable[int]) -> TextDelta:
        """Id by id, so that usage can end at the token that completes the stop."""
        released: list[str] = []
        produced: list[int] = []
        stopped = False
        for token_id in token_ids:
            text, n_new, stopped = self._push(token_id)
            released.append(text)
            produced.append(n_new)
            if stopped:
                break
        return TextDelta(tuple(released), tuple(produced), stopped)

    def flush(self) -> Rest:
        """When the answer has ended for another reason than a stop string."""
        text, stopped = self._stops.push(self._detokenizer.flush())
        return Rest(text + self._stops.flush(), stopped)

    def _push(self, token_id: int) -> tuple[str, int, bool]:
        """A control token prints nothing; one that a stop spells completes that stop all the same."""
        spelled = self._spelled.get(token_id)
        if spelled is None:
            text = self._detokenizer.push((token_id,))
            return self._pushed(text, seen=True)
        return self._pushed(spelled, seen=token_id in self._shown)

    def _pushed(self, text: str, seen: bool) -> tuple[str, int, bool]:
        released, stopped = self._stops.push(text, seen)
        return released, len(text) if seen else 0, stopped
