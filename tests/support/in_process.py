"""A server within the test's process, so that a test can ask its engine and its connections."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from engine import Engine, EngineConfig, load_model
from kernels import load_backend
from server.app import create_app
from server.main import bind, uvicorn_config
from server.settings import Settings


class InProcess:
    """A server in a thread of this process, configured as main.py does it."""

    def __init__(self, engine: Engine, *, loop: str = "asyncio", **settings: Any) -> None:
        chosen = Settings(port=0, drain_seconds=5.0, **settings)
        self.app = create_app(engine, chosen)
        self.thread = self.app.state.service.thread
        self.listener = bind(chosen)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        config = uvicorn_config(self.app, chosen)
        config.loop = loop
        self.server = uvicorn.Server(config)
        self._runner = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    def __enter__(self) -> "InProcess":
        self._runner.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._runner.join(20)
        assert not self._runner.is_alive()

    def ask(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.thread._loop).result(10)

    def assert_empty_soon(self) -> None:
        """Within a second nothing waits or runs and every KV block and every state is free."""
        end = time.monotonic() + 1.0
        while (stats := self.ask(self.thread.stats())).n_running + stats.n_waiting:
            assert time.monotonic() < end, stats
            time.sleep(0.01)
        assert stats.n_free_blocks == stats.n_blocks
        assert stats.n_free_slots == stats.n_slots
        self.ask(self.thread.check_integrity())


def new_engine(model: Path, **config: Any) -> Engine:
    """A step takes at least 2 ms, LONG nearly a second: the tests leave and look on before it is over."""
    engine = Engine(load_model(model, load_backend("cpu", threads=2)), EngineConfig(**config))
    step = engine.step

    def slow_step() -> Any:
        time.sleep(0.002)
        return step()

    engine.step = slow_step  # type: ignore[method-assign]
    return engine
