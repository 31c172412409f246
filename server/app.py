"""The application: routes, the life of the engine's thread, and one shape for every error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from engine import Engine, RequestError
from server.admission import Admission
from server.engine_thread import EngineThread
from server.errors import ApiError, from_request_error
from server.middleware import Gate
from server.openapi import describe
from server.routes import chat_completions, completions, docs, health, models
from server.service import Service, package_version
from server.settings import Settings


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """The server for one engine. Its state holds `service`; startup starts the engine's thread."""
    thread = EngineThread(engine, step_seconds=settings.step_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        thread.start()
        yield
        await thread.stop()

    app = FastAPI(
        title="Espalier",
        version=package_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere; routes/docs.py has one of our own
        redoc_url=None,
    )
    app.state.service = Service(thread, settings)
    for module in (chat_completions, completions, models, health, docs):
        app.include_router(module.router)
    describe(app)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    admission = Admission(engine.config.max_batch, engine.config.max_queue, settings.max_connections)
    app.add_middleware(Gate, settings=settings, admission=admission)
    return app


def _answer(error: ApiError) -> Response:
    headers = {"content-type": "application/json", **error.headers}
    return Response(error.body(), status_code=error.status, headers=headers)


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _answer(from_request_error(error))


async def _on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own refusals: an unknown route, a method the route does not have."""
    assert isinstance(error, HTTPException)
    message = {404: "no such route", 405: "this route does not answer that method"}
    text = message.get(error.status_code, str(error.detail))
    return _answer(ApiError(error.status_code, text, headers=dict(error.headers or {})))
