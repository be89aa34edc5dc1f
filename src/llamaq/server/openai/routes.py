"""The routes of OpenAI's protocol, with /v1 and as llama-server has them without."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from llamaq.server.about import parameter_count, quantization
from llamaq.server.dialect import json_response
from llamaq.server.endpoint import Endpoint
from llamaq.server.errors import Refusal
from llamaq.server.openai.chat import Chat, ChatTokens
from llamaq.server.openai.completions import Completion
from llamaq.server.openai.embeddings import Embeddings
from llamaq.server.openai.responses import Response, ResponseTokens
from llamaq.server.served import Entry
from llamaq.server.service import Service
from llamaq.server.status import told

__all__ = ["routes"]


def routes(service: Service) -> list[Route]:
    """All of them."""
    found = [
        Route("/v1/chat/completions", Endpoint(service, Chat), methods=["POST"]),
        Route("/chat/completions", Endpoint(service, Chat), methods=["POST"]),
        Route("/v1/chat/completions/input_tokens", Endpoint(service, ChatTokens), methods=["POST"]),
        Route("/v1/completions", Endpoint(service, Completion), methods=["POST"]),
        Route("/v1/embeddings", Endpoint(service, Embeddings), methods=["POST"]),
        Route("/v1/responses", Endpoint(service, Response), methods=["POST"]),
        Route("/v1/responses/input_tokens", Endpoint(service, ResponseTokens), methods=["POST"]),
        Route("/v1/responses/{id:path}", told(_no_response), methods=["GET", "DELETE", "POST"]),
    ]
    for path, answer in (
        ("/v1/models", _models),
        ("/models", _models),
        ("/v1/models/{id:path}", _model),
        ("/models/{id:path}", _model),
    ):
        found.append(Route(path, told(partial(answer, service)), methods=["GET"]))
    return found


def _no_response(request: Request) -> HttpResponse:
    id = request.path_params["id"]
    raise Refusal(404, f"there is no response {id!r:.100}: this server keeps none; send the whole input again")


def _models(service: Service, request: Request) -> HttpResponse:
    entries = [_entry(entry, name) for entry in service.models.listed() for name in (*entry.names, *entry.adapters)]
    ids = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return json_response({"object": "list", "data": entries, **ids, "has_more": False})


def _model(service: Service, request: Request) -> HttpResponse:
    name = request.path_params["id"]
    entry = service.models.find(name)
    return json_response(_entry(entry, name if name in entry.names or entry.adapter_of(name) else entry.name))


def _entry(entry: Entry, name: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"size": entry.size}
    known: dict[str, Any] = {"meta": meta}
    if entry.served is not None:
        llm = entry.served.llm
        file = llm.model.parts.file
        meta |= {
            "n_vocab": llm.hparams.vocab_size, "n_ctx": llm.n_ctx, "n_ctx_train": llm.hparams.context_length,
            "n_embd": llm.hparams.width, "n_params": parameter_count(file), "ftype": quantization(file),
            "architecture": llm.metadata.get("general.architecture"),
        }  # fmt: skip
        reads = ["text"] if llm.model.encoder is None else ["text", "image"]
        known["architecture"] = {"input_modalities": reads, "output_modalities": ["text"]}
    created = int(entry.modified)
    when = datetime.fromtimestamp(created, timezone.utc).isoformat()
    head = {"id": name, "object": "model", "created": created, "owned_by": "llamaq"}
    theirs = {"type": "model", "display_name": name, "created_at": when, "lifecycle": "active"}  # Anthropic's clients
    if adapter := entry.adapter_of(name):
        head |= {"parent": entry.name, "root": adapter}
    return {**head, "status": {"value": entry.state.replace("on disk", "unloaded")}, **known, **theirs}
