"""Files of sessions: a header in JSON, tokens, pages of keys and values, and the SHA-256 of it all.

    "llamaq session\\n"  version, length of the header: uint32
    header {"model": SHA-256, "cache": type, "numerics", "shape": [pages, layers, bytes of a page], "tokens": n},
           and where the text went through adapters, "adapter": "SHA-256 scale, ...", where the model's metadata were
           overridden, "plan": the SHA-256 of what is computed then
    tokens: int32        pages, as they are in memory        SHA-256 of everything before

Numbers are little-endian. Only full pages are written: the rest of the last one may hold traces of other texts.
Version 2 is for models whose layers have windows: {"read": tokens of the pages, "shapes": [a shape for each cache
group]} in place of the shape; each group has the pages that a later token sees.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, TypeGuard

import numpy as np

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import open_file, reason
from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.engine.loading import LoadedModel
from llamaq.errors import ContextOverflowError, SessionError, naming
from llamaq.models.ropes import ROPE_LONG
from llamaq.serving.prefix import Mark
from llamaq.serving.scheduler import Scheduler

__all__ = ["load", "save"]

_MAGIC = b"llamaq session\n"
_START = struct.Struct(f"<{len(_MAGIC)}sII")
_DIGEST = hashlib.sha256().digest_size
_MOST_HEADER = 1 << 16  # bytes; ours have some 200
_SOMETIMES = ("adapter", "rope", "plan")  # keys of an identity that most sessions do not have
_DAMAGED = "the file is damaged or no session: save it again"


def save(path: Path, parts: LoadedModel, scheduler: Scheduler, tokens: tuple[int, ...], mark: Mark = ()) -> None:
    """Writes ``tokens`` and what the cache has of them. Raises ``SessionError``."""
    length, groups = scheduler.copy_pages(tokens, mark)
    shapes = [list(pages.shape) for pages in groups]
    pages = {"read": length, "shapes": shapes} if scheduler.room.has_windows else {"shape": shapes[0]}
    header = json.dumps({**_identity(parts, mark), **pages, "tokens": len(tokens)}).encode()
    chunks: list[bytes | memoryview] = [
        _START.pack(_MAGIC, _version(scheduler), len(header)), header, np.array(tokens, "<i4").tobytes(),
        *(pages.reshape(-1).data for pages in groups),
    ]  # fmt: skip
    digest = hashlib.sha256()
    with atomic_file(path, SessionError) as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.write(digest.digest())


def load(path: Path, parts: LoadedModel, scheduler: Scheduler, mark: Mark = ()) -> tuple[tuple[int, ...], int]:
    """Tokens of a file, and how many of them the cache has now. Raises ``SessionError``, ``ContextOverflowError``.

    Pages are read once they are known to fit the context; a pipe or a device is no session.
    """
    with open_file(path, SessionError) as file:
        size = os.fstat(file.fileno()).st_size
        front, header = _header(path, file, size, _version(scheduler))
        n, length, shapes = _counts(path, header, scheduler, size - len(front) - _DIGEST)
        identity = _identity(parts, mark)
        for key in (*identity, *(key for key in _SOMETIMES if key not in identity)):
            if header.get(key) != identity.get(key):
                raise SessionError(
                    f"{path}: expected a session with {key} {identity.get(key)}, got {str(header.get(key))[:80]}; "
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
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts_of = np.split(np.frombuffer(body, np.uint8, offset=4 * n), ends[:-1])
    groups = [data.reshape(shape) for data, shape in zip(parts_of, shapes, strict=True)]
    return tokens, scheduler.put_pages(tokens, length, groups, mark)


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        data = file.read(size)
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {reason(error, 'check the disk')}") from None
    if len(data) < size:
        raise SessionError(f"{path}: expected {size} bytes more, got {len(data)}; {_DAMAGED}")
    return data


def _identity(parts: LoadedModel, mark: Mark) -> dict[str, str]:
    """What the cache's bytes depend on beside the tokens."""
    own = {"model": parts.sha256, "cache": parts.cache.cache_type, "numerics": parts.engine.numerics}
    if mark:
        own["adapter"] = ", ".join(f"{digest} {scale!r}" for digest, scale in mark)
    if parts.file.overridden:  # otherwise it follows from the file and the context
        own["plan"] = hashlib.sha256(repr(parts.engine.plan).encode()).hexdigest()
    if ROPE_LONG in parts.file.tensors:
        key = f"{parts.hparams.architecture}.rope.scaling.original_context_length"
        original = parts.file.metadata.get(key, parts.hparams.context_length)
        own["rope"] = "long" if isinstance(original, int) and parts.memory.n_ctx > original else "short"
    return own


def _version(scheduler: Scheduler) -> int:
    return 2 if scheduler.room.has_windows else 1


def _header(path: Path, file: BinaryIO, size: int, ours: int) -> tuple[bytes, dict[str, object]]:
    """The bytes before the tokens, and the header in them."""
    start = _read(path, file, min(size, _START.size))
    if len(start) < _START.size or not start.startswith(_MAGIC):
        raise SessionError(f"{path}: expected a session, got {start[:16]!r}; {_DAMAGED}")
    _, version, length = _START.unpack(start)
    if version != ours:
        raise SessionError(f"{path}: expected version {ours}, got {version}; save it again with this llamaq")
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


def _counts(
    path: Path, header: dict[str, object], scheduler: Scheduler, left: int
) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Numbers of tokens and of those in pages, and the pages' shapes, believed once they fit the bytes that are left,
    and this model."""
    n, read, shapes = header.get("tokens"), header.get("read"), header.get("shapes")
    if not scheduler.room.has_windows:
        shape = header.get("shape")
        shapes = [shape]
        read = shape[0] * PAGE_TOKENS if isinstance(shape, list) and shape and type(shape[0]) is int else None
    found = _shapes(shapes)
    if not found or not _is_count(n) or not _is_count(read):
        raise SessionError(f"{path}: expected counts of tokens and pages, got {n!r} and {shapes!r}; {_DAMAGED}")
    length = read
    if 4 * n + sum(map(math.prod, found)) != left or length > n or length % PAGE_TOKENS:
        raise SessionError(f"{path}: {n} tokens and pages of {length} do not make its {left} bytes; {_DAMAGED}")
    if found != scheduler.room.page_shapes(length):
        raise SessionError(
            f"{path}: expected pages of (pages, layers, bytes) {scheduler.room.page_shapes(length)}, got {found}; "
            "load it with the model that it was saved with"
        )
    return n, length, found


def _shapes(value: object) -> list[tuple[int, int, int]]:
    """Shapes of pages; none where the value is anything else."""
    shapes = [tuple(x) for x in value if isinstance(x, list)] if isinstance(value, list) else []
    if isinstance(value, list) and len(shapes) == len(value) and all(_is_shape(shape) for shape in shapes):
        return [(pages, layers, size) for pages, layers, size in shapes]
    return []


def _is_shape(shape: tuple[object, ...]) -> TypeGuard[tuple[int, int, int]]:
    return len(shape) == 3 and all(map(_is_count, shape))


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0
