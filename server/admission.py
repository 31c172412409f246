"""How many requests are let in at once. What is refused here costs neither parsing nor a tokenizer, so that a crowd
takes no time from the requests that run."""

from server.errors import ApiError, overloaded

MAX_RETRY_AFTER_S = 60


class Admission:
    """Counts the requests whose bodies have come whole, until their answers end: at most as many as the engine runs
    and queues. A body that is still coming takes no place, or slow senders could fill them all."""

    def __init__(self, max_batch: int, max_queue: int, max_requests: int) -> None:
        self._max_batch = max_batch
        self._max_inside = max_batch + max_queue
        self._max_requests = max_requests
        self.n_inside = 0
        self.n_complete = 0  # requests with bodies that the HTTP layer has whole and that have no answer yet
        self.n_requests = 0  # of all kinds, those whose bodies are coming among them

    def refusal_at_head(self) -> ApiError | None:
        """What the HTTP layer answers a request with a body that comes when there is no place, before it is one.

        In a crowd that comes in one moment no request has been looked at when the last of them is here: so the HTTP
        layer counts for itself.
        """
        return self._full() if self.n_complete >= self._max_inside else None

    def check(self, *, has_body: bool) -> None:
        """Before a body is read. Raises ApiError 503 where there is no place for the request."""
        if self.n_requests > self._max_requests or (has_body and self.n_inside >= self._max_inside):
            raise self._full()

    def enter(self) -> None:
        """When the body is there, before anyone looks at it. Raises ApiError 503; `leave` is owed otherwise."""
        if self.n_inside >= self._max_inside:
            raise self._full()
        self.n_inside += 1

    def leave(self) -> None:
        self.n_inside -= 1

    def _full(self) -> ApiError:
        # Nobody knows how long the answers will be: a guess of one second for each full batch ahead.
        retry_after_s = min(1 + max(self.n_inside, self.n_complete) // self._max_batch, MAX_RETRY_AFTER_S)
        return overloaded(f"the server is busy; try again in {retry_after_s} s", retry_after_s)
