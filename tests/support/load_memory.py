"""Loads a model, answers a prompt with it, and prints as JSON what that took of memory: bytes, this process's own.

python -m support.load_memory MODEL.gguf PROMPT_TOKENS
"""

import json
import sys
from pathlib import Path

from engine import Engine, EngineConfig, load_model
from engine.types import SamplingParams
from kernels import load_backend


def status(name: str) -> int:
    """A size of /proc/self/status: VmRSS is resident now, VmHWM the most it ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(path: str, n_prompt: int) -> dict[str, int]:
    ops = load_backend("cpu", threads=2)
    before = status("VmRSS")
    loaded = load_model(path, ops)
    peak, after = status("VmHWM"), status("VmRSS")
    engine = Engine(loaded, EngineConfig(ctx_size=n_prompt + 8, max_batch=1))
    engine.add("a", [1 + i % 200 for i in range(n_prompt)], SamplingParams(max_tokens=8))
    while engine.has_work:
        engine.step()
    return {
        "before": before,
        "peak_of_load": peak,
        "after_load": after,
        "after_answer": status("VmRSS"),
        "weights": loaded.weight_bytes,
        "kv": engine.kv.nbytes,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
