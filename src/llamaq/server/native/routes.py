"""llama-server's routes."""

from __future__ import annotations

from starlette.routing import Route

from llamaq.server.endpoint import Endpoint
from llamaq.server.native.template import AppliedTemplate
from llamaq.server.service import Service

__all__ = ["routes"]


def routes(service: Service) -> list[Route]:
    """All of them."""
    return [Route("/apply-template", Endpoint(service, AppliedTemplate), methods=["POST"])]
