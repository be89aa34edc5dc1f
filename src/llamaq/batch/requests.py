"""The lines of a batch file: which request each one is, or what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llamaq.boundary.arguments import shown
from llamaq.boundary.files import open_file
from llamaq.server.body import json_object_of
from llamaq.server.errors import Refusal

__all__ = ["MOST_LINE", "URLS", "Request", "read_requests", "seed_of"]

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
MOST_LINE = 16 * 2**20
"""Bytes of a line."""

_WITHOUT_SEED = ("/v1/embeddings",)


@dataclass(frozen=True)
class Request:
    """A line of a batch file, by its ``number`` from 1 on. ``id`` says all that its answer depends on: equal ones have
    equal answers. Where ``problem`` says what is wrong with the line, by a ``code``, there is nothing to ask."""

    number: int
    id: str
    custom_id: str | None
    url: str
    body: dict[str, Any]
    code: str = ""
    problem: str = ""


def read_requests(path: str | os.PathLike[str], identity: str, seed: int) -> Iterator[Request]:
    """The requests of a file in its order; empty lines count, but are none.

    ``identity`` is what else an answer depends on: the model and how it runs. A request that names no seed gets one
    made of ``seed`` and its ``custom_id``, so that its place in the file does not matter. Raises ``LlamaqError`` for a
    file that cannot be read; what is wrong with a line is its request's ``problem``.
    """
    seen: set[bytes] = set()
    with open_file(path) as file:
        for number, line in enumerate(_lines(file), 1):
            if not line.strip():
                continue
            try:
                found = _request(number, line, identity, seed)
                key = hashlib.sha256((found.custom_id or "").encode()).digest()[:12]
                if key in seen:
                    raise _Bad("duplicate_custom_id", f"custom_id {shown(found.custom_id)} was there before")
                seen.add(key)
            except _Bad as bad:
                id = _id(identity, number, line.decode("utf-8", "replace"))
                found = Request(number, id, None, "", {}, bad.code, f"line {number} of {Path(path).name}: {bad}")
            yield found


def seed_of(seed: int, custom_id: str) -> int:
    """The seed of a request that has none of its own, 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{custom_id}".encode()).digest()[:4], "little")


class _Bad(Exception):
    """A line that is no request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, so much that this can be seen."""
    while line := file.readline(MOST_LINE + 1):
        if len(line) <= MOST_LINE or line.endswith(b"\n"):
            yield line
            continue
        yield line
        while (rest := file.readline(MOST_LINE)) and not rest.endswith(b"\n"):
            pass


def _request(number: int, line: bytes, identity: str, seed: int) -> Request:
    if len(line) > MOST_LINE:
        raise _Bad("line_too_long", f"expected at most {MOST_LINE} bytes")
    try:
        found = json_object_of(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except Refusal as refusal:
        raise _Bad("invalid_json_line", refusal.message.replace("the body", "it", 1)) from None
    custom_id, url, body = found.get("custom_id"), found.get("url"), found.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise _Bad("missing_custom_id", f"custom_id must be a text, got {shown(custom_id)}")
    if found.get("method", "POST") != "POST":
        raise _Bad("invalid_method", f"method must be 'POST', got {shown(found['method'])}")
    if not isinstance(url, str) or url not in URLS:
        raise _Bad("invalid_url", f"url must be one of {', '.join(URLS)}, got {shown(url)}")
    if not isinstance(body, dict):
        raise _Bad("invalid_body", f"body must be an object, got {shown(body)}")
    if url not in _WITHOUT_SEED and _has_no_seed(body):
        body = {**body, "seed": seed_of(seed, custom_id)}
    return Request(number, _id(identity, custom_id, url, body), custom_id, url, body)


def _has_no_seed(body: dict[str, Any]) -> bool:
    """Whether the answer would have a random seed."""
    seed = body.get("seed")
    return seed is None or (isinstance(seed, int) and seed < 0)


def _id(*parts: Any) -> str:
    raw = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return f"batch_req_{hashlib.sha256(raw).hexdigest()[:24]}"
