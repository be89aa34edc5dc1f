"""The web page: files of this package, which need no other host and no build."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["FILES", "PARTS", "PUBLIC", "is_for_people", "routes"]

FILES = {
    "page.html": "text/html",
    "page.css": "text/css",
    **{
        f"{name}.js": "text/javascript"
        for name in ("page", "api", "chat", "dom", "markdown", "message", "pictures", "settings", "store", "words")
    },
}
"""The files and what each is; together less than 60 kB as they are served."""
PARTS = frozenset(f"/page/{name}" for name in FILES)
"""Paths that a browser asks for with each look at the page."""
PUBLIC = ("/", *PARTS)
"""Paths that need no key: the page asks its reader for one."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # no text becomes HTML, whoever writes the script
)
# Comments on lines of their own and what lines are indented by are for whoever reads the source.
_DRESSING = re.compile(rb"^(?:\s*(?://[^\n]*|/\*.*?\*/))*\s*", re.MULTILINE | re.DOTALL)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
    "vary": "accept",
}


def is_for_people(path: str, headers: Headers) -> bool:
    """Whether a request asks for the page or a part of it."""
    return path in PARTS or (path == "/" and "text/html" in headers.get("accept", ""))


def routes() -> list[Route]:
    """The page at ``/`` for browsers, a line there for all others, and the page's files."""
    kept = {name: _DRESSING.sub(b"", Path(__file__).with_name(name).read_bytes()) for name in FILES}

    async def file(name: str, _: Request) -> Response:
        return Response(kept[name], headers=_HEADERS, media_type=FILES[name])

    async def root(request: Request) -> Response:
        if is_for_people("/", request.headers):
            return await file("page.html", request)
        return PlainTextResponse("llamaq is running\n", headers={"vary": "accept"})

    found = [Route("/", root, methods=["GET"])]
    for name in FILES:
        found.append(Route(f"/page/{name}", partial(file, name), methods=["GET"]))
    return found
