"""The routes of OpenAI's protocol, and the health of the server."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaq.server.dialect import Dialect, json_response
from llamaq.server.endpoint import Endpoint
from llamaq.server.errors import Refusal, refusal_of, shutting_down
from llamaq.server.openai.chat import Chat, ChatTokens
from llamaq.server.openai.completions import Completion
from llamaq.server.openai.embeddings import Embeddings
from llamaq.server.served import Served
from llamaq.server.service import Service

__all__ = ["routes"]


def routes(service: Service) -> list[Route]:
    """All of them."""
    found = [
        Route("/v1/chat/completions", Endpoint(service, Chat), methods=["POST"]),
        Route("/v1/chat/completions/input_tokens", Endpoint(service, ChatTokens), methods=["POST"]),
        Route("/v1/completions", Endpoint(service, Completion), methods=["POST"]),
        Route("/v1/embeddings", Endpoint(service, Embeddings), methods=["POST"]),
    ]
    for path, answer in (
        ("/v1/models", _models),
        ("/v1/models/{id:path}", _model),
        ("/health", _health),
        ("/v1/health", _health),
        ("/metrics", _metrics),
    ):
        found.append(Route(path, _Get(partial(answer, service)).answer, methods=["GET"]))
    return found


class _Get:
    """A route that tells something at once."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell

    async def answer(self, request: Request) -> Response:
        try:
            found: Response = self._tell(request)
            return found
        except Exception as error:
            return Dialect().refused(refusal_of(error))


def _models(service: Service, request: Request) -> Response:
    entries = [_entry(service.models.find(name), name) for name in service.models.names]
    ids = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"], "has_more": False}
    return json_response({"object": "list", "data": entries, **ids})


def _model(service: Service, request: Request) -> Response:
    name = request.path_params["id"]
    served = service.models.find(name)
    return json_response(_entry(served, name if name in service.models.names else served.name))


def _entry(served: Served, name: str) -> dict[str, Any]:
    llm = served.llm
    file = llm.model.parts.file
    meta = {
        "n_vocab": llm.hparams.vocab_size, "n_ctx": llm.n_ctx, "n_ctx_train": llm.hparams.context_length,
        "n_embd": llm.hparams.width, "architecture": llm.metadata.get("general.architecture"),
        "size": sum(tensor.nbytes for tensor in file.tensors.values()),
    }  # fmt: skip
    created = datetime.fromtimestamp(served.created, timezone.utc).isoformat()
    own = {"id": name, "object": "model", "created": served.created, "owned_by": "llamaq", "meta": meta}
    theirs = {"type": "model", "display_name": name, "created_at": created, "lifecycle": "active"}
    return {**own, **theirs}  # for OpenAI's clients and for Anthropic's


def _health(service: Service, request: Request) -> Response:
    if service.admission.closed or any(served.llm.model.scheduler.closed for served in service.models.loaded):
        raise shutting_down()
    return json_response({"status": "ok"})


def _metrics(service: Service, request: Request) -> Response:
    page = service.metrics.page()
    if page is None:
        raise Refusal(501, "this server counts nothing; start it with --metrics")
    return Response(page[0], media_type=page[1])
