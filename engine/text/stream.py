"""From the ids of a request's steps to the text a client may see: the detokenizer, then the stop strings."""

from collections.abc import Iterable
from typing import NamedTuple

from engine.text.detokenizer import Detokenizer
from engine.text.stop_strings import StopStrings
from engine.text.tokenizer import Tokenizer


class TextDelta(NamedTuple):
    text: str
    n_tokens: int  # ids taken, up to and including the one that completed a stop string
    stopped: bool  # a stop string is complete: what follows is overshoot


class TextStream:
    """One request's answer. After a delta that says stopped, nothing more comes out."""

    def __init__(
        self, tokenizer: Tokenizer, stops: Iterable[str] = (), *, skip_leading_space: bool = False
    ) -> None:
        stops = tuple(stops)
        self._detokenizer = Detokenizer(tokenizer, skip_leading_space)
        self._stops = StopStrings(stops)
        self._spelled = tokenizer.control_tokens_in(stops)

    def push(self, token_ids: Iterable[int]) -> TextDelta:
        """Id by id, so that usage can end at the token that completes the stop."""
        texts, n_tokens, stopped = [], 0, False
        for token_id in token_ids:
            text, stopped = self._push(token_id)
            texts.append(text)
            n_tokens += 1
            if stopped:
                break
        return TextDelta("".join(texts), n_tokens, stopped)

    def flush(self) -> TextDelta:
        """The rest, when the answer has ended for another reason than a stop string."""
        text, stopped = self._stops.push(self._detokenizer.flush())
        return TextDelta(text + self._stops.flush(), 0, stopped)

    def _push(self, token_id: int) -> tuple[str, bool]:
        """A control token prints nothing; one that a stop spells completes that stop all the same."""
        spelled = self._spelled.get(token_id)
        if spelled is not None:
            return self._stops.push(spelled, seen=False)
        return self._stops.push(self._detokenizer.push((token_id,)))
