"""A conversation with a loaded model in this process: messages in, pieces of text out, nothing of the web stack."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from engine import Engine, EngineConfig, EspalierError, LoadedModel, SamplingParams
from engine.sampling import validate
from engine.text.stream import TextStream

Message = dict[str, str]
_REQUEST_ID = "chat"
#: Sampling parameters that are no number, or say nothing of the text.
_OTHERS = ("logit_bias", "ignore_eos", "allowed_token_ids", "sampler_order", "logprobs")
#: The sampling parameters that are one number.
SETTABLE = tuple(f.name for f in fields(SamplingParams) if f.name not in _OTHERS)


class Conversation:
    """The messages so far and the engine that continues them, one answer at a time."""

    def __init__(
        self, loaded: LoadedModel, config: EngineConfig, params: SamplingParams, system: str = ""
    ) -> None:
        assert loaded.chat_template is not None, "a model from a file has a template, if only the default"
        assert loaded.tokenizer is not None, "a model from a file has a vocabulary"
        self._template, self._tokenizer = loaded.chat_template, loaded.tokenizer
        self._engine = Engine(loaded, config)
        self.params = params
        self._turns: list[Message] = []
        self.system = system
        self.n_forgotten = 0  # messages dropped since the start, so that the rest fits the context

    def reset(self) -> None:
        """Forget every turn; the system message stays."""
        self._turns, self.n_forgotten = [], 0

    def set_param(self, name: str, text: str) -> None:
        """One of SETTABLE from what a person typed. Raises EspalierError; then nothing has changed."""
        if name not in SETTABLE:
            raise EspalierError(f"there is no parameter {name!r}; there are {', '.join(SETTABLE)}")
        is_float = isinstance(getattr(SamplingParams(), name), float)
        try:
            value: Any = float(text) if is_float else int(text)
        except ValueError:
            raise EspalierError(
                f"{name} is a {'number' if is_float else 'whole number'}, not {text!r}"
            ) from None
        params = replace(self.params, **{name: value})
        validate(params, self._engine.n_vocab)
        self.params = params

    def messages(self) -> list[Message]:
        """The whole conversation, its instruction first, as the API takes it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self._turns

    def reply(self, text: str, is_stopped: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """The answer, piece by piece. is_stopped is asked between steps; a stopped answer counts as said so far.

        Raises RequestError and then remembers nothing of this turn.
        """
        self._turns.append({"role": "user", "content": text})
        try:
            prompt_ids = self._fitting_prompt()
            self._engine.add(_REQUEST_ID, prompt_ids, self.params)
        except Exception:
            self._turns.pop()
            raise
        said: list[str] = []
        try:
            for piece in self._pieces(prompt_ids, is_stopped):
                said.append(piece)
                yield piece
        finally:
            self._engine.abort(_REQUEST_ID)
            self._turns.append({"role": "assistant", "content": "".join(said)})

    def _pieces(self, prompt_ids: list[int], is_stopped: Callable[[], bool]) -> Iterator[str]:
        skip = self._tokenizer.adds_space_after(prompt_ids[-1])
        stream = TextStream(self._tokenizer, self._template.stops, skip_leading_space=skip)
        while self._engine.has_work and not is_stopped():
            for event in self._engine.step():
                if event.error is not None:
                    raise EspalierError(event.error)
                delta = stream.push(event.token_ids)
                if delta.text:
                    yield delta.text
                if delta.stopped:
                    return
        if rest := stream.flush().text:
            yield rest

    def _fitting_prompt(self) -> list[int]:
        """The prompt's ids. The oldest turns are dropped while less than a quarter of the context is left."""
        while True:
            prompt_ids = self._template.encode(self.messages())
            if len(prompt_ids) <= self._engine.ctx_size * 3 // 4 or len(self._turns) == 1:
                return prompt_ids
            del self._turns[:2]
            self.n_forgotten += 2
