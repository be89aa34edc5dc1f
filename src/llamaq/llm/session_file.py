"""Files of sessions: a header in JSON, tokens, pages of keys and values, and the SHA-256 of it all.

    "llamaq session\\n"  version, length of the header: uint32
    header {"model": SHA-256, "cache": type, "numerics", "shape": [pages, layers, bytes of a page], "tokens": n}
    tokens: int32        pages, as they are in memory        SHA-256 of everything before

Numbers are little-endian. Only full pages are written: the rest of the last one may hold traces of other texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import open_file, reason
from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.engine.loading import Parts
from llamaq.errors import ContextOverflowError, SessionError, naming
from llamaq.serving.scheduler import Scheduler

__all__ = ["load", "save"]

_MAGIC = b"llamaq session\n"
_VERSION = 1
_START = struct.Struct(f"<{len(_MAGIC)}sII")
_DIGEST = hashlib.sha256().digest_size
_MOST_HEADER = 1 << 16  # bytes; ours have some 200
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
    with atomic_file(path, SessionError) as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.write(digest.digest())


def load(path: Path, parts: Parts, scheduler: Scheduler) -> tuple[tuple[int, ...], int]:
    """Tokens of a file, and how many of them the cache has now. Raises ``SessionError``, ``ContextOverflowError``.

    Pages are read once they are known to fit the context; a pipe or a device is no session.
    """
    with open_file(path, SessionError) as file:
        size = os.fstat(file.fileno()).st_size
        front, header = _header(path, file, size)
        n, shape = _counts(path, header, scheduler, size - len(front) - _DIGEST)
        for key, ours in _identity(parts).items():
            if header.get(key) != ours:
                raise SessionError(
                    f"{path}: expected a session with {key} {ours}, got {str(header.get(key))[:80]}; "
                    "load it with the model and the settings that it was saved with"
                )
        if n > scheduler.n_ctx + 1:  # the last token of an answer that filled the context was not read
            message = f"{path}: the session has {n} tokens, the context {scheduler.n_ctx}; raise n_ctx"
            raise naming(ContextOverflowError(message, needed=n, available=scheduler.n_ctx), "n_ctx")
        body, digest = _read(path, file, size - len(front) - _DIGEST), _read(path, file, _DIGEST)
    checksum = hashlib.sha256(front)
    checksum.update(body)
    if checksum.digest() != digest:
        raise SessionError(f"{path}: its bytes do not have the checksum at its end; {_DAMAGED}")
    tokens = tuple(np.frombuffer(body, "<i4", n).tolist())
    if tokens and not 0 <= min(tokens) <= max(tokens) < parts.hparams.vocab_size:
        raise SessionError(f"{path}: expected tokens below {parts.hparams.vocab_size}, got others; {_DAMAGED}")
    pages = np.frombuffer(body, np.uint8, offset=4 * n).reshape(shape)
    return tokens, scheduler.put_pages(tokens, pages)


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        data = file.read(size)
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {reason(error, 'check the disk')}") from None
    if len(data) < size:
        raise SessionError(f"{path}: expected {size} bytes more, got {len(data)}; {_DAMAGED}")
    return data


def _identity(parts: Parts) -> dict[str, str]:
    """What the cache's bytes depend on beside the tokens."""
    return {"model": parts.sha256, "cache": parts.cache.cache_type, "numerics": parts.engine.numerics}


def _header(path: Path, file: BinaryIO, size: int) -> tuple[bytes, dict[str, object]]:
    """The bytes before the tokens, and the header in them."""
    start = _read(path, file, min(size, _START.size))
    if len(start) < _START.size or not start.startswith(_MAGIC):
        raise SessionError(f"{path}: expected a session, got {start[:16]!r}; {_DAMAGED}")
    _, version, length = _START.unpack(start)
    if version != _VERSION:
        raise SessionError(f"{path}: expected version {_VERSION}, got {version}; save it again with this llamaq")
    if length > _MOST_HEADER:
        raise SessionError(f"{path}: expected a header of at most {_MOST_HEADER} bytes, got {length}; {_DAMAGED}")
    text = _read(path, file, length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise SessionError(f"{path}: the header is not JSON; {_DAMAGED}")
    return start + text, header


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
