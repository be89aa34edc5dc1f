"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from llamaq.server import page
from llamaq.server.dialects import dialect_of
from llamaq.server.errors import Refusal
from llamaq.server.guard import Guard, RequestLog
from llamaq.server.openai import routes as openai
from llamaq.server.served import Models
from llamaq.server.service import Service
from llamaq.server.settings import Settings

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["app"]

_SHOWN = ["x-request-id", "x-llamaq-ignored", "x-llamaq-seed", "retry-after"]
"""Headers that scripts of other origins may read."""


def app(llm: LLM, settings: Settings | None = None) -> Starlette:
    """An ASGI application that answers for a model, which stays the caller's to close; ``app.state.service`` is what
    its routes share.

    Raises ``LlamaqError`` where metrics are asked for and prometheus_client is missing.
    """
    settings = Settings() if settings is None else settings
    service = Service(Models(llm, settings.names), settings)
    found = [route for protocol in (openai,) for route in protocol.routes(service)]
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
    middleware.append(Middleware(Guard, settings))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.cancel()

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
