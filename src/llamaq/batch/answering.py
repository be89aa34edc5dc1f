"""Answers requests by the code of the server's routes, many of them at once, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llamaq.batch.requests import MOST_LINE, Request
from llamaq.batch.sameness import same_each_time
from llamaq.server.dialect import dumps
from llamaq.server.endpoint import Endpoint
from llamaq.server.errors import Refusal
from llamaq.server.models import Models
from llamaq.server.openai.chat import Chat
from llamaq.server.openai.completions import Completion
from llamaq.server.openai.embeddings import Embeddings
from llamaq.server.openai.responses import Response
from llamaq.server.service import Service
from llamaq.server.settings import Settings

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["Answerer"]

_JOBS = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/embeddings": Embeddings,
    "/v1/responses": Response,
}
_FOR_EVER = 1e9  # seconds that a request may wait for its turn


class Answerer:
    """Answers requests with a loaded model, ``parallel`` of them at once, each as it would be alone. One event loop may
    use it at a time; the model stays its maker's to close."""

    def __init__(
        self, llm: LLM, *, parallel: int = 16, template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        settings = Settings(
            names=("*",), parallel=parallel, queue_seconds=_FOR_EVER, body_seconds=_FOR_EVER, max_body=2 * MOST_LINE,
            template=template, template_kwargs=template_kwargs or {},
        )  # fmt: skip
        service = Service(Models(llm, settings), settings)
        self._endpoints = {url: Endpoint(service, job) for url, job in _JOBS.items()}
        self._parallel = parallel

    def run(self, requests: Iterable[Request], done: Callable[[Request, str], None]) -> None:
        """Calls ``done`` with each request and its line of the output, in the order in which they are ready."""
        asyncio.run(self._run(iter(requests), done))

    async def _run(self, requests: Iterator[Request], done: Callable[[Request, str], None]) -> None:
        async def work() -> None:
            for request in requests:
                done(request, await self.line(request))

        tasks = [asyncio.ensure_future(work()) for _ in range(self._parallel)]
        try:
            await asyncio.gather(*tasks)
        finally:  # an error of one ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def line(self, request: Request) -> str:
        """The line of the output that answers a request."""
        head = {"id": request.id, "custom_id": request.custom_id}
        if request.problem:
            error = {"code": request.code, "message": request.problem, "line": request.number}
            return dumps({**head, "response": None, "error": error})
        if request.body.get("stream"):
            refusal = Refusal(400, "stream: the answers of a batch come whole; leave it out", param="stream")
            status, body = refusal.status, refusal.body
        else:
            status, body = await _post(self._endpoints[request.url], request)
        number = f"req_{request.id.rpartition('_')[2]}"
        response = {"status_code": status, "request_id": number, "body": same_each_time(body, request.id)}
        return dumps({**head, "response": response, "error": None})


async def _post(endpoint: Endpoint, request: Request) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer."""
    raw, status, parts = dumps(request.body).encode(), 500, []
    begun = False

    async def receive() -> dict[str, Any]:
        nonlocal begun
        if begun:  # the client never hangs up
            await asyncio.Event().wait()
        begun = True
        return {"type": "http.request", "body": raw}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    await endpoint(scope, receive, send)
    found: dict[str, Any] = json.loads(b"".join(parts))
    return status, found
