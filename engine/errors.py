"""Two families of things that are not our fault: a bad model file, and a bad request. All else is a bug."""


class EspalierError(Exception):
    """Something the person at the keyboard can mend; str() is one clear line."""


class ModelFileError(EspalierError):
    """The model cannot be loaded: names the file, the key or tensor, and what would work. Exit status 2."""


class ResourceError(EspalierError):
    """The machine cannot hold what was asked for (memory, port). Exit status 2."""


class RequestError(EspalierError):
    """One request is wrong. param and code go into the OpenAI error body; status is the HTTP status."""

    status = 400

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class GuideError(EspalierError):
    """What restricts an answer cannot go on; the answer ends with this line."""


class ContextLengthError(RequestError):
    """The prompt does not fit the context. The first words are the ones that clients search for."""

    def __init__(self, n_prompt_tokens: int, n_ctx: int, *, at_least: bool = False) -> None:
        """at_least: n_prompt_tokens is a lower bound. An answer has at least one token beside them."""
        bound = "at least " if at_least else ""
        super().__init__(
            f"This model's maximum context length is {n_ctx} tokens. However, you requested "
            f"{bound}{n_prompt_tokens + 1} tokens ({bound}{n_prompt_tokens} in the prompt), which exceeds the "
            "available context size.",
            param="prompt",
            code="context_length_exceeded",
        )
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class QueueFullError(RequestError):
    """Too many requests are waiting; retry_after_s is when to come back."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, code="rate_limit_exceeded")
        self.retry_after_s = retry_after_s
