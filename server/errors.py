"""What went wrong, as OpenAI's clients expect to read it: {"error": {message, type, param, code}}."""

import json
from typing import Any

from engine import QueueFullError, RequestError

MAX_MESSAGE = 1000  # characters: an error body stays far below 4 KiB

_TYPES = {401: "authentication_error", 404: "invalid_request_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer with an error body. headers are added to the response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}
        self.extra = extra or {}

    def body(self) -> bytes:
        return error_body(self.status, self.message, param=self.param, code=self.code, extra=self.extra)


def error_object(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    text = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."
    return {"error": {"message": text, "type": kind, "param": param, "code": code, **(extra or {})}}


def error_body(status: int, message: str, **fields: Any) -> bytes:
    return json.dumps(error_object(status, message, **fields)).encode("ascii")


def from_request_error(error: RequestError) -> ApiError:
    """The engine's refusal as an answer. A full queue is 503: retrying later helps, and clients do."""
    if isinstance(error, QueueFullError):
        return overloaded(str(error), error.retry_after_s)
    extra = {name: value for name, value in vars(error).items() if name in ("n_prompt_tokens", "n_ctx")}
    return ApiError(error.status, str(error), param=error.param, code=error.code, extra=extra)


def overloaded(message: str, retry_after_s: int, code: str = "server_overloaded") -> ApiError:
    return ApiError(503, message, code=code, headers={"retry-after": str(retry_after_s)})


def engine_failed() -> ApiError:
    return ApiError(503, "the engine has failed; the server is going down", code="engine_failed")


def internal(request_id: str) -> ApiError:
    return ApiError(500, f"internal error; the server's log has it under request id {request_id}")
