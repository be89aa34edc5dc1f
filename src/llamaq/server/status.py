"""How the server is: routes for who watches over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaq.server.dialect import json_response
from llamaq.server.dialects import dialect_of
from llamaq.server.errors import Refusal, refusal_of, shutting_down
from llamaq.server.service import Service

__all__ = ["routes", "told"]


def routes(service: Service) -> list[Route]:
    """All of them."""
    paths = (("/health", _health), ("/v1/health", _health), ("/livez", _alive), ("/metrics", _metrics))
    return [Route(path, told(partial(answer, service)), methods=["GET"]) for path, answer in paths]


def told(tell: Callable[[Request], Response | Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A route that tells something, or the error that comes of it."""

    async def answer(request: Request) -> Response:
        try:
            found = tell(request)
            return found if isinstance(found, Response) else await found
        except Exception as error:
            return dialect_of(request.url.path).refused(refusal_of(error))

    return answer


def _health(service: Service, request: Request) -> Response:
    """Whether requests are welcome."""
    if service.admission.closed or any(served.llm.model.scheduler.closed for served in service.models.loaded):
        raise shutting_down()
    return json_response({"status": "ok"})


def _alive(service: Service, request: Request) -> Response:
    """Whether the process does what it should; who watches over it should start it anew where it does not."""
    seconds = max((served.llm.model.scheduler.silence for served in service.models.loaded), default=0.0)
    if seconds > service.settings.watchdog_seconds:
        raise Refusal(503, f"a model has not ended its step for {seconds:.0f} seconds", code="stalled")
    return json_response({"status": "ok"})


def _metrics(service: Service, request: Request) -> Response:
    page = service.metrics.page()
    if page is None:
        raise Refusal(501, "this server counts nothing; start it with --metrics")
    return Response(page[0], media_type=page[1])
