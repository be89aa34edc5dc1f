"""``llamaq ps``: the models that a running server has."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from llamaq.cli.command import Command
from llamaq.cli.options import Parser, at_least, from_env
from llamaq.cli.output import harmless, size, write
from llamaq.errors import LlamaqError

__all__ = ["COMMAND"]

_ABOUT = """\
Lists the models of a server that runs ('llamaq serve', or Ollama's): those in memory, by /api/ps; where it has no such
route, those that it serves, by /v1/models."""
_SECONDS = 10.0
_MOST_BYTES = 1 << 22


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--host", default=from_env("LLAMA_ARG_HOST", "127.0.0.1"), help="its address (default 127.0.0.1, "
        "env LLAMA_ARG_HOST)")  # fmt: skip
    add("--port", metavar="N", type=at_least(1), default=from_env("LLAMA_ARG_PORT", "8080"), help="its port (default "
        "8080, env LLAMA_ARG_PORT; Ollama's is 11434)")  # fmt: skip
    add("--url", metavar="URL", help="both in one, as of a server with HTTPS: https://HOST:PORT")
    add("--api-key", metavar="KEY", default=os.environ.get("LLAMA_API_KEY", ""), help="its key (env LLAMA_API_KEY)")
    add("--json", action="store_true", help="print the server's answer")


def ps(args: argparse.Namespace) -> int:
    """Runs the command."""
    url = (args.url or _url(args.host, args.port)).rstrip("/").removesuffix("/v1")
    if not _is_address(url):
        args.parser.error(f"--url: expected http://HOST:PORT, got {url!r}")
    answer = _asked(url, "/api/ps", args.api_key)
    if answer is None:
        answer = _asked(url, "/v1/models", args.api_key)
    if answer is None:
        raise LlamaqError(f"{url} has neither /api/ps nor /v1/models: it is no server of models")
    if args.json:
        write(json.dumps(answer, indent=2) + "\n")
        return 0
    listed = answer.get("models", answer.get("data"))
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    write(_table(models) if models else f"{url} has no model in memory\n")
    return 0


def _url(host: str, port: int) -> str:
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


def _asked(url: str, route: str, key: str) -> dict[str, Any] | None:
    """The answer of a route; None where the server does not have it."""
    request = Request(url + route, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with _opener(url).open(request, timeout=_SECONDS) as reply:
            raw = reply.read(_MOST_BYTES + 1)
        found = json.loads(raw) if len(raw) <= _MOST_BYTES else None
    except HTTPError as error:
        with error:
            if error.code in (404, 405):
                return None
        if error.code in (401, 403):
            raise LlamaqError(f"{url} wants a key: --api-key, or LLAMA_API_KEY") from None
        raise LlamaqError(f"{url}{route} answers with status {error.code}") from None
    except (URLError, OSError) as error:
        why = getattr(error, "reason", error)
        raise LlamaqError(
            f"no server answers at {url}: {why}; 'llamaq serve' starts one, --port says where one is"
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LlamaqError(f"{url}{route}: expected a JSON object; it is no server of models")
    return found


class _NoRedirect(HTTPRedirectHandler):
    """A key is for the server that was named, and no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str) -> OpenerDirector:
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return build_opener(_NoRedirect, *([ProxyHandler({})] if local else []))


def _table(models: Sequence[dict[str, Any]]) -> str:
    rows = [("NAME", "SIZE", "CONTEXT", "UNTIL")]
    for each in models:
        nbytes, context = each.get("size"), each.get("context_length")
        until = str(each.get("expires_at") or "")
        rows.append((
            str(each.get("name") or each.get("id") or "?"),
            size(nbytes) if isinstance(nbytes, int) else "",
            str(context) if isinstance(context, int) else "",
            "forever" if until.startswith("9999") else until,
        ))  # fmt: skip
    cleaned = [[harmless(cell).replace("\n", " ")[:100] for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cleaned) for i in range(4)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cleaned)
    return "".join(f"{line.rstrip()}\n" for line in lines)


COMMAND = Command(
    help="list the models of a running server",
    usage="[options]",
    about=_ABOUT,
    add_options=_add_options,
    run=ps,
)
