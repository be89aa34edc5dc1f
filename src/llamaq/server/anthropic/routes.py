"""The routes of Anthropic's protocol."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaq.server.anthropic.count import TokenCount
from llamaq.server.anthropic.dialect import ANTHROPIC
from llamaq.server.anthropic.messages import Messages
from llamaq.server.endpoint import Endpoint
from llamaq.server.service import Service

__all__ = ["routes"]


def routes(service: Service) -> list[Route]:
    """All of them."""
    return [
        Route("/v1/messages", Endpoint(service, Messages, ANTHROPIC), methods=["POST"]),
        Route("/v1/messages/count_tokens", Endpoint(service, TokenCount, ANTHROPIC), methods=["POST"]),
        Route("/", _is_there, methods=["HEAD"]),
    ]


async def _is_there(request: Request) -> Response:
    """What agents ask for before they begin."""
    return Response()
