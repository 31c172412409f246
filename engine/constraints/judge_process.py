"""The process that tries a form before the server compiles it: one that takes too long, needs too much memory or
overflows the stack ends here, and harms nobody.

Runs as a script of its own, with nothing of ours imported, so that it starts in a tenth of a second. For every job it
forks: the child has the limits, and the parent tells how it went. Jobs and answers are JSON with a length of four
bytes in front, on standard input and output; the end of input ends it.
"""

import json
import os
import resource
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

END_ID = 256
STACK_BYTES = 1 << 20  # less than any thread of the server has
MAX_ERROR = 4000  # characters: a pipe takes the answer at once
NICENESS = 5  # the engine's threads come first


class _Bytes:
    """The smallest vocabulary: what a form costs depends little on the tokens."""

    tokens = [*(bytes([byte]) for byte in range(256)), b"</s>"]  # noqa: RUF012 (read by llguidance)
    eos_token_id = END_ID
    bos_token_id = None
    special_token_ids = [END_ID]  # noqa: RUF012

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError


def _read(stream: BinaryIO) -> Any:
    header = stream.read(4)
    if len(header) < 4:
        raise EOFError
    return json.loads(stream.read(struct.unpack("<I", header)[0]))


def _write(stream: BinaryIO, message: Any) -> None:
    data = json.dumps(message).encode()
    stream.write(struct.pack("<I", len(data)) + data)
    stream.flush()


def main() -> None:
    os.nice(NICENESS)
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[END_ID], slices=[])
    while True:
        try:
            job = _read(sys.stdin.buffer)
        except EOFError:
            return
        _write(sys.stdout.buffer, _judged(tokenizer, job))


def _judged(tokenizer: LLTokenizer, job: Any) -> Any:
    """{"error": text or null, "memory": bytes}; {"signal": number} for a form that broke its limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _try(tokenizer, job, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return json.loads(told) if told else {"signal": 0}


def _try(tokenizer: LLTokenizer, job: Any, writer: int) -> None:
    """In the child. Never returns."""
    try:
        _limit(job["cpu_seconds"], job["memory_bytes"])
        threading.stack_size(STACK_BYTES)
        thread = threading.Thread(target=_compile, args=(tokenizer, job, writer))
        thread.start()
        thread.join()
    finally:
        os._exit(0)


def _limit(cpu_seconds: float, memory_bytes: int) -> None:
    """SIGPROF, which nobody handles, ends the process when its time on a processor is used up."""
    with open("/proc/self/statm") as statm:
        own_bytes = int(statm.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (own_bytes + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _compile(tokenizer: LLTokenizer, job: Any, writer: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = LLParserLimits(**job["limits"])
    matcher = LLMatcher(tokenizer, job["grammar"], limits=limits, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    answer = {"error": matcher.get_error()[:MAX_ERROR] or None, "memory": grown * 1024}
    os.write(writer, json.dumps(answer).encode())


if __name__ == "__main__":
    main()
