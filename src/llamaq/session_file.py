"""Files of sessions: a header in JSON, tokens, pages of keys and values, and the SHA-256 of it all.

    "llamaq session\\n"  version, length of the header: uint32
    header {"model": SHA-256, "cache": type, "numerics", "shape": [pages, layers, bytes of a page], "tokens": n}
    tokens: int32        pages, as they are in memory        SHA-256 of everything before

Numbers are little-endian. Only full pages are written: the rest of the last one may hold traces of other texts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np

from llamaq.errors import ContextOverflowError, GGUFError, SessionError
from llamaq.gguf.atomic import atomic_file
from llamaq.kv_cache import PAGE_TOKENS
from llamaq.loading import Parts
from llamaq.scheduler import Scheduler

__all__ = ["load", "save"]

_MAGIC = b"llamaq session\n"
_VERSION = 1
_START = struct.Struct(f"<{len(_MAGIC)}sII")
_DIGEST = hashlib.sha256().digest_size
_DAMAGED = "the file is damaged or no session: save it again"


def save(path: Path, parts: Parts, scheduler: Scheduler, tokens: tuple[int, ...]) -> None:
    """Writes ``tokens`` and what the cache has of them. Raises ``SessionError``."""
    pages = scheduler.copy_pages(tokens)
    header = json.dumps({**_identity(parts), "shape": pages.shape, "tokens": len(tokens)}).encode()
    chunks: list[bytes | memoryview] = [
        _START.pack(_MAGIC, _VERSION, len(header)), header, np.array(tokens, "<i4").tobytes(),
        pages.reshape(-1).data,
    ]  # fmt: skip
    digest = hashlib.sha256()
    try:
        with atomic_file(path) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.write(digest.digest())
    except GGUFError as error:
        raise SessionError(str(error)) from None


def load(path: Path, parts: Parts, scheduler: Scheduler) -> tuple[tuple[int, ...], int]:
    """Tokens of a file, and how many of them the cache has now. Raises ``SessionError``, ``ContextOverflowError``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    header, at = _header(path, data)
    n, shape = _counts(path, header, scheduler, len(data) - at - _DIGEST)
    for key, ours in _identity(parts).items():
        if header.get(key) != ours:
            raise SessionError(
                f"{path}: expected a session with {key} {ours}, got {header.get(key)}; "
                "load it with the model and the settings that it was saved with"
            )
    if hashlib.sha256(memoryview(data)[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise SessionError(f"{path}: its bytes do not have the checksum at its end; {_DAMAGED}")
    if n > scheduler.n_ctx + 1:  # the last token of an answer that filled the context was not read
        raise ContextOverflowError(
            f"{path}: the session has {n} tokens, the context {scheduler.n_ctx}; raise the context (-c)",
            needed=n, available=scheduler.n_ctx,
        )  # fmt: skip
    tokens = tuple(np.frombuffer(data, "<i4", n, at).tolist())
    pages = np.frombuffer(data, np.uint8, offset=at + 4 * n)[:-_DIGEST].reshape(shape)
    return tokens, scheduler.put_pages(tokens, pages)


def _identity(parts: Parts) -> dict[str, str]:
    """What the cache's bytes depend on beside the tokens."""
    return {"model": parts.sha256, "cache": parts.cache.cache_type, "numerics": parts.engine.numerics}


def _header(path: Path, data: bytes) -> tuple[dict[str, object], int]:
    """The header, and where it ends."""
    if len(data) < _START.size or not data.startswith(_MAGIC):
        raise SessionError(f"{path}: expected a session, got {data[:16]!r}; {_DAMAGED}")
    _, version, length = _START.unpack_from(data)
    if version != _VERSION:
        raise SessionError(f"{path}: expected version {_VERSION}, got {version}; save it again with this llamaq")
    try:
        header = json.loads(data[_START.size : _START.size + length])
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise SessionError(f"{path}: the header is not JSON; {_DAMAGED}")
    return header, _START.size + length


def _counts(path: Path, header: dict[str, object], scheduler: Scheduler, left: int) -> tuple[int, tuple[int, ...]]:
    """Number of tokens and shape of the pages, believed once they fit the bytes that are left, and this model."""
    n, shape = header.get("tokens"), header.get("shape")
    numbers = [n, *shape] if isinstance(shape, list) and len(shape) == 3 else [None]
    if not all(type(x) is int and x >= 0 for x in numbers):
        raise SessionError(f"{path}: expected counts of tokens and pages, got {n!r} and {shape!r}; {_DAMAGED}")
    n, pages, layers, size = (int(x) for x in numbers if isinstance(x, int))
    if 4 * n + pages * layers * size != left or pages * PAGE_TOKENS > n:
        raise SessionError(f"{path}: {n} tokens and {pages} pages do not make its {left} bytes; {_DAMAGED}")
    if (layers, size) != scheduler.page_shape:
        raise SessionError(
            f"{path}: expected pages of {scheduler.page_shape} layers and bytes, got {(layers, size)}; "
            "load it with the model that it was saved with"
        )
    return n, (pages, layers, size)
