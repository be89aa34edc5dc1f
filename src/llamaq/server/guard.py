"""What stands before every route: who may ask from where, and the line of the log."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaq.server import page
from llamaq.server.dialect import request_id
from llamaq.server.dialects import dialect_of
from llamaq.server.errors import Refusal
from llamaq.server.service import Service
from llamaq.serving.request import ASKER, OWNER

__all__ = ["Guard", "RequestLog", "access"]

access = logging.getLogger("llamaq.server.access")

PUBLIC = ("/health", "/v1/health", "/livez", *page.PUBLIC)
"""Routes that need no key."""
_ALWAYS = ("/livez",)  # routes that answer while the model is being loaded
_LOADING = 2  # seconds after which it is worth to look again
_COUNTS = {"in": "tokens in", "counted": "tokens counted"}
_HUNG_UP = 499  # nginx' number for a client that is gone


class Guard:
    """Refuses requests of web pages that have no business here, those without a key where keys are set, and all but
    those for the server's own page while the only model is still being loaded."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._models = service.models
        self._settings = settings = service.settings
        self._keys = [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                self._check(scope, Headers(scope=scope))
            except Refusal as refusal:
                app = dialect_of(scope["path"]).refused(refusal)
        await app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not host and scope.get("http_version") == "1.1":  # h11 refuses this itself, httptools does not
            raise Refusal(400, "a request of HTTP/1.1 needs the header Host", headers={"connection": "close"})
        if host and not self._settings.is_host(_name_of(host)):
            message = f"this server is not known as {host!r:.100}; start it with --allowed-hosts, or with an --api-key"
            raise Refusal(403, message)
        cross = headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if cross and not self._settings.is_origin(headers.get("origin", "")):
            raise Refusal(403, "pages of other sites may not use this server; --cors-origins names those that may")
        if self._keys and scope["path"] not in PUBLIC:
            number = scope["llamaq.key"] = self._key_of(headers)
            asker = hashlib.sha256(self._keys[number]).hexdigest()
            ASKER.set(asker)
            OWNER.set("" if self._settings.cache_shared else asker)
        if self._models.starting and not (scope["path"] in _ALWAYS or page.is_for_people(scope["path"], headers)):
            raise Refusal(503, "Loading model", retry_after=_LOADING, more={"code": 503})

    def _key_of(self, headers: Headers) -> int:
        """The number of the request's key."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
        # All are compared, whichever fits, so that the time tells nothing.
        found = [hmac.compare_digest(key, each.encode("latin-1", "replace")) for key in self._keys for each in given]
        if not any(found):
            message = "a key is needed: the header Authorization: Bearer KEY" if not any(given) else "the key is wrong"
            raise Refusal(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        return found.index(True) // len(given)


class RequestLog:
    """Numbers each request (headers ``x-request-id`` and, for Anthropic's clients, ``request-id``), counts it, and
    writes one line about it, never what it says; none about the page's files, of which each look at it asks for all."""

    def __init__(self, app: ASGIApp, service: Service, routes: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, id, status = time.monotonic(), secrets.token_hex(8), _HUNG_UP
        request_id.set(id)

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers["x-request-id"] = headers["request-id"] = id
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        finally:
            seconds = time.monotonic() - began
            status = _HUNG_UP if scope.get("llamaq.gone") else status
            path = scope["path"] if scope["path"] in self._routes else "other"
            self._service.metrics.responded(path, status, seconds)
            if path not in page.PARTS or status != 200:
                self._write(scope, path, status, seconds)

    def _write(self, scope: Scope, path: str, status: int, seconds: float) -> None:
        told = scope.get("llamaq.told", {})
        id = request_id.get()
        fields = {"id": id, "method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 3)}
        access.info(
            "%s %s %s %.3f s%s", id, f"{fields['method']} {path}", status, seconds, _words(**told) if told else "",
            extra={"request": json.dumps({**fields, **told})},
        )  # fmt: skip


def _words(model: str, tokens: Mapping[str, int]) -> str:
    counts = [f"{count} {_COUNTS.get(what, what)}" for what, count in tokens.items()]
    return ", ".join(["", model, *counts])


def _name_of(host: str) -> str:
    """A Host header without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
