"""llama-server's routes, and OpenAI's without /v1 as it has them."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from llamaq.server.endpoint import Endpoint
from llamaq.server.native import state
from llamaq.server.native.completion import Completion
from llamaq.server.native.infill import Infill
from llamaq.server.native.template import AppliedTemplate
from llamaq.server.native.texts import Detokenized, Tokenized
from llamaq.server.native.vectors import Embeddings, Ranking
from llamaq.server.service import Service
from llamaq.server.status import told

__all__ = ["routes"]

_JOBS = {
    Completion: ("/completion", "/completions"),
    Infill: ("/infill",),
    Tokenized: ("/tokenize",),
    Detokenized: ("/detokenize",),
    AppliedTemplate: ("/apply-template",),
    Embeddings: ("/embedding", "/embeddings"),
    Ranking: ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
}


def routes(service: Service) -> list[Route]:
    """All of them."""
    found = [Route(path, Endpoint(service, job), methods=["POST"]) for job, paths in _JOBS.items() for path in paths]
    for path, answer, method in (
        ("/props", state.props, "GET"),
        ("/props", state.no_props, "POST"),
        ("/slots", state.slots, "GET"),
        ("/slots/{id}", state.no_slot, "POST"),
        ("/lora-adapters", state.adapters, "GET"),
        ("/lora-adapters", state.no_adapters, "POST"),
    ):
        found.append(Route(path, told(partial(answer, service)), methods=[method]))
    return found
