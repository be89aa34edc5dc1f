"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from llamaq.server import page, status
from llamaq.server.anthropic import routes as anthropic
from llamaq.server.catalogue import Source
from llamaq.server.dialects import dialect_of
from llamaq.server.errors import Refusal
from llamaq.server.guard import Guard, RequestLog
from llamaq.server.models import Models
from llamaq.server.native import routes as native
from llamaq.server.ollama import routes as ollama
from llamaq.server.openai import routes as openai
from llamaq.server.service import Service
from llamaq.server.settings import Settings

__all__ = ["app"]

_SHOWN = ["x-request-id", "request-id", "x-llamaq-ignored", "x-llamaq-seed", "retry-after"]
"""Headers that scripts of other origins may read."""


def app(models: Source | Sequence[Source], settings: Settings | None = None) -> Starlette:
    """An ASGI application that answers for a model or several: loaded ones, which stay the caller's to close, and files
    and folders of files, which are loaded when they are asked for, a single file at once. ``app.state.service`` is what
    its routes share.

    Raises ``LlamaqError`` where metrics are asked for and prometheus_client is missing, ``ValueError``.
    """
    settings = Settings() if settings is None else settings
    service = Service(Models(models, settings), settings)
    found = [route for protocol in (openai, anthropic, ollama, native, status) for route in protocol.routes(service)]
    found += page.routes() if settings.page else []
    middleware = [Middleware(RequestLog, service, frozenset(route.path for route in found))]
    if settings.cors_origins:
        origins = [origin for origin in settings.cors_origins if origin != "localhost"]
        middleware.append(
            Middleware(
                CORSMiddleware, allow_origins=origins, allow_origin_regex=settings.origin_pattern,
                allow_methods=["GET", "POST"], allow_headers=["*"], expose_headers=_SHOWN,
            )
        )  # fmt: skip
    middleware.append(Middleware(Guard, service))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.models.start()
        yield
        service.cancel()
        await service.models.close()

    result = Starlette(
        routes=found, middleware=middleware, lifespan=lifespan, exception_handlers={HTTPException: _refused}
    )
    result.state.service = service
    return result


async def _refused(request: Request, error: Exception) -> Response:
    """What the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    message = {404: f"there is no {request.url.path!r:.200} here", 405: f"{request.method:.20} is not for this path"}
    said = message.get(error.status_code, str(error.detail))
    refusal = Refusal(error.status_code, said, headers=dict(error.headers or {}))
    return dialect_of(request.url.path).refused(refusal)
