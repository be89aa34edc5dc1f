"""Ollama's routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llamaq import __version__
from llamaq.server.dialect import json_response
from llamaq.server.endpoint import Endpoint
from llamaq.server.errors import Refusal, refusal_of
from llamaq.server.ollama.chat import Chat
from llamaq.server.ollama.dialect import OLLAMA
from llamaq.server.ollama.embed import Embed, OldEmbedding
from llamaq.server.ollama.generate import Generate
from llamaq.server.ollama.shown import Shown, running, tags
from llamaq.server.service import Service

__all__ = ["routes"]

_VERSION = "0.30.0"
"""The one of Ollama whose protocol this is: clients compare it."""
_JOBS = {
    "/api/generate": Generate,
    "/api/chat": Chat,
    "/api/embed": Embed,
    "/api/embeddings": OldEmbedding,
    "/api/show": Shown,
}
_NOT_HERE = {
    "/api/pull": (403, "this server downloads nothing: put the file where it serves models from"),
    "/api/create": (501, "this server makes no models: llamaq convert and llamaq quantize do"),
    "/api/push": (501, "this server uploads nothing"),
    "/api/copy": (501, "this server changes no files"),
    "/api/delete": (501, "this server changes no files"),
    "/api/blobs/{digest}": (501, "this server takes no files"),
}


def routes(service: Service) -> list[Route]:
    """All of them."""
    found = [Route(path, Endpoint(service, job, OLLAMA), methods=["POST"]) for path, job in _JOBS.items()]

    async def version(_: Service) -> dict[str, Any]:
        return {"version": _VERSION, "llamaq": __version__}

    async def status(_: Service) -> dict[str, Any]:
        return {"cloud": {"disabled": True, "source": "none"}}

    for path, tell in (("tags", tags), ("ps", running), ("version", version), ("status", status)):
        found.append(Route(f"/api/{path}", _told(service, tell), methods=["GET"]))
    if not service.settings.page:  # clients ask for HEAD / to see whether somebody is there
        found.append(Route("/", _root, methods=["GET"]))
    for path, (number, why) in _NOT_HERE.items():
        method = "DELETE" if path == "/api/delete" else "POST"
        methods = [method, "HEAD"] if "{" in path else [method]
        found.append(Route(path, _told(service, _refuses(number, why)), methods=methods))
    return found


def _told(
    service: Service, tell: Callable[[Service], Awaitable[dict[str, Any]]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        try:
            return json_response(await tell(service))
        except Exception as error:
            return OLLAMA.refused(refusal_of(error))

    return answer


async def _root(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return OLLAMA.refused(Refusal(404, "this server has no web page"))
    return PlainTextResponse("llamaq is running\n", headers={"vary": "accept"})


def _refuses(status: int, why: str) -> Callable[[Service], Awaitable[dict[str, Any]]]:
    async def answer(_: Service) -> dict[str, Any]:
        raise Refusal(status, why)

    return answer
