"""Routes that tell something at once."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaq.server.dialect import Dialect
from llamaq.server.errors import refusal_of

__all__ = ["tells"]


def tells(path: str, answer: Callable[[Request], Response], dialect: Dialect | None = None, *methods: str) -> Route:
    """A route; what ``answer`` raises is told in the words of the protocol. HEAD goes along with GET."""

    async def told(request: Request) -> Response:
        try:
            return answer(request)
        except Exception as error:
            return (dialect or Dialect()).refused(refusal_of(error))

    return Route(path, told, methods=list(methods) or ["GET"])
