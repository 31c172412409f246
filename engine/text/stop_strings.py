"""Stop strings in a stream of text: nothing that may turn out to be part of one is given out.

An Aho-Corasick automaton (Aho and Corasick 1975): one step a character, whatever the number and length of the
stops. Its state is the longest end of the text so far that begins some stop: exactly what is held back.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.errors import RequestError


@dataclass
class _State:
    depth: int  # characters of the text that this state stands for
    stop_length: int = 0  # characters of the longest stop that ends here; 0: none
    next: dict[str, "_State"] = field(default_factory=dict)
    fallback: "_State | None" = None  # the longest proper end of this state's text that is a state too


class StopStrings:
    """The stop that is complete first wins; of two complete at one character, the longer. It is removed, unless the
    stop is kept.

    So the result does not depend on how the text was cut into pushes. Text may be pushed that the client does not
    see, a control token as the vocabulary spells it: it completes stops and is never given out. Raises RequestError
    for an empty stop.
    """

    def __init__(self, stops: Iterable[str], *, keeps_stop: bool = False) -> None:
        self.found: str | None = None  # the stop that is complete
        self._keeps_stop = keeps_stop
        self._root = _automaton(stops)
        self._state = self._root
        self._held = ""
        self._unseen: set[int] = set()  # places in _held
        self._stopped = False

    def push(self, text: str, seen: bool = True) -> tuple[str, bool]:
        """The text that is safe to give out, and whether a stop is complete. After that: ("", True)."""
        if self._stopped:
            return "", True
        n_held = len(self._held)
        if not seen:
            self._unseen.update(range(n_held, n_held + len(text)))
        self._held += text
        for end, character in enumerate(text, n_held + 1):
            self._state = _step(self._state, character)
            if self._state.stop_length:
                start = end - self._state.stop_length
                self.found = self._held[start:end]
                before = self._released(end if self._keeps_stop else start)
                self._held, self._stopped = "", True
                return before, True
        return self._released(len(self._held) - self._state.depth), False

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        self._state = self._root
        return self._released(len(self._held))

    def _released(self, n: int) -> str:
        """The first n held characters, without those that the client does not see."""
        text, self._held = self._held[:n], self._held[n:]
        if self._unseen:
            text = "".join(c for i, c in enumerate(text) if i not in self._unseen)
            self._unseen = {i - n for i in self._unseen if i >= n}
        return text


def _step(state: _State, character: str) -> _State:
    while character not in state.next and state.fallback is not None:
        state = state.fallback
    return state.next.get(character, state)  # the root stays where it is


def _automaton(stops: Iterable[str]) -> _State:
    root = _State(depth=0)
    for stop in stops:
        if not stop:
            raise RequestError("a stop string must not be empty", param="stop")
        state = root
        for character in stop:
            state = state.next.setdefault(character, _State(depth=state.depth + 1))
        state.stop_length = len(stop)
    _link(root)
    return root


def _link(root: _State) -> None:
    """Breadth first, so that a state's fallback, which is shallower, is complete before the state."""
    queue = deque([root])
    while queue:
        state = queue.popleft()
        for character, child in state.next.items():
            child.fallback = root if state is root else _step(state.fallback or root, character)
            child.stop_length = child.stop_length or child.fallback.stop_length
            queue.append(child)
