"""The application: routes, the life of the engine's thread, and one shape for every error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from engine import Engine, RequestError
from server.admission import Admission
from server.cors import CorsHeaders, OriginGuard
from server.engine_thread import EngineThread
from server.errors import ApiError, from_request_error
from server.middleware import Gate
from server.openapi import describe
from server.origins import OriginPolicy
from server.paths import CanonicalPaths, nearest_route, served, shown_path
from server.routes import (
    about,
    apply_template,
    chat_completions,
    completions,
    detokenize,
    docs,
    embedding,
    embeddings,
    health,
    input_tokens,
    models,
    props,
    render,
    slots,
    tokenize,
    tokenizer_info,
)
from server.service import Service, package_version
from server.settings import Settings

MODULES = (
    chat_completions,
    render,
    input_tokens,
    completions,
    embeddings,
    embedding,
    apply_template,
    tokenize,
    detokenize,
    tokenizer_info,
    models,
    props,
    slots,
    health,
    about,
    docs,
)


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
    for module in MODULES:
        app.include_router(module.router)
    app.state.routes = [route for router in (app, *(m.router for m in MODULES)) for route in served(router)]
    describe(app)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    admission = Admission(engine.config.max_batch, engine.config.max_queue, settings.max_connections)
    app.state.admission = admission
    _add_layers(app, settings, admission)
    return app


def _add_layers(app: FastAPI, settings: Settings, admission: Admission) -> None:
    """What a request passes before its route, innermost first."""
    policy = OriginPolicy(
        settings.host, bool(settings.api_keys), settings.cors_origins, settings.allowed_hosts
    )
    app.add_middleware(OriginGuard, policy=policy, routes=app.state.routes)
    app.add_middleware(Gate, settings=settings, admission=admission)
    app.add_middleware(CorsHeaders, policy=policy)
    app.add_middleware(CanonicalPaths, routes=app.state.routes)


def _answer(error: ApiError) -> Response:
    headers = {"content-type": "application/json", **error.headers}
    return Response(error.body(), status_code=error.status, headers=headers)


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _answer(from_request_error(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: an unknown route, a method the route does not have."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    asked = getattr(request.state, "asked_path", request.url.path)
    if error.status_code == 404:
        nearest = nearest_route(asked, request.app.state.routes)
        text = f"no route {shown_path(asked)} here; use {nearest}, or see GET /"
    elif error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        text = f"{shown_path(asked)} does not answer {shown_path(request.method)}; use {allowed}"
    else:
        text = str(error.detail)
    return _answer(ApiError(error.status_code, text, headers=headers))
