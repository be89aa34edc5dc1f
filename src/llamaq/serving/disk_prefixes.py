"""Beginnings of texts on disk: which of them a request finds there, and which are kept once a prompt is read.

A text is kept in blocks of ``BLOCK`` tokens, each under a digest of all tokens up to its end, so that texts with the
same beginning share the blocks of it. A block has the pages of the cache groups that keep everything. What windows and
states need to go on is a block of its own, the ``tail``, behind the last one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq import __version__, _core
from llamaq.engine.kv_cache import PAGE_TOKENS, Pages
from llamaq.engine.loading import LoadedModel
from llamaq.engine.page_pool import PagePool
from llamaq.errors import GGUFError
from llamaq.serving.disk_cache import BlockFolder, DiskCache
from llamaq.serving.request import Request
from llamaq.serving.room import Room
from llamaq.serving.scheduler import Scheduler

__all__ = ["BLOCK", "DiskPrefixes", "Unwritten"]

logger = logging.getLogger("llamaq")

BLOCK = 256
"""Tokens of a block; shorter beginnings are read sooner than they are found."""

_PAGES = BLOCK // PAGE_TOKENS
_FORMAT = 1
_CLOSING = 5.0  # seconds for which the end waits for what is being written


@dataclass(frozen=True)
class Unwritten:
    """Blocks that are to be written, with their keys; ``keys`` are those of the whole text."""

    blocks: list[tuple[bytes, list[NDArray[np.uint8]]]]
    keys: list[bytes]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, parts in self.blocks for part in parts)


class DiskPrefixes:
    """What a model has in a ``DiskCache``: the ``Room.beyond`` of its scheduler, whose lock guards ``brings`` and
    ``keeps``; reading and writing are done by threads of their own, without it."""

    def __init__(self, cache: DiskCache, parts: LoadedModel, scheduler: Scheduler) -> None:
        self._cache = cache
        self._parts: LoadedModel | None = parts
        self._scheduler = weakref.ref(scheduler)  # it holds the room, which holds this
        self._pools = parts.cache.pools
        self._limited = any(pool.limited for pool in self._pools)
        self._blocks: BlockFolder | None = None
        self._fails = False  # the disk has refused once
        self._writing = 0  # texts that are being written
        self._written = threading.Condition()
        self._process = os.getpid()
        self._reading = threading.Lock()  # one of several requests with one beginning reads it
        digest = cache.model_digest(parts.file, None)
        if digest is not None:
            self._blocks = cache.of(self._about(parts, digest))

    def close(self) -> None:
        """Waits a little for what is being written, and lets go of the model."""
        if self._process == os.getpid():  # nobody writes in a forked child, where the lock may be held for ever
            with self._written:
                self._written.wait_for(lambda: not self._writing, _CLOSING)
        self._parts = None

    def brings(self, request: Request) -> bool:
        """Whether a thread now brings what the disk has of a request's beginning and the cache does not; the request is
        busy until then."""
        scheduler = self._scheduler()
        if request.asked_disk or scheduler is None:
            return False
        request.asked_disk = True
        if not self._length(request, scheduler.room):
            return False
        request.busy = True
        try:
            scheduler.workers.run(partial(self._bring, request, scheduler))
        except RuntimeError:  # there is no thread for it
            request.busy = False
        return request.busy

    def keeps_up_to(self, request: Request) -> int:
        """How many tokens of a prompt are in the blocks that ``keeps`` has written: less than all, as ``_length`` finds
        no more of the same prompt."""
        if self._fails or not _is_kept(request):
            return 0
        return min((request.prompt_tokens - 1) // BLOCK, self._most_blocks) * BLOCK

    def keeps(self, request: Request) -> None:
        """Has a thread write what the cache has of a prompt that was read and the disk does not have yet."""
        scheduler = self._scheduler()
        try:
            found = None if scheduler is None else self._take(request, scheduler.room)
        except MemoryError:  # the copy may be large, and no answer ends by it
            logger.warning("the cache on disk is not written: there is no memory for a copy of what was read")
            return
        if scheduler is not None and found is not None:
            with self._written:
                self._writing += 1
            try:
                scheduler.workers.run(partial(self._write, found))
            except RuntimeError:  # there is no thread for it
                self._done()

    def _bring(self, request: Request, scheduler: Scheduler) -> None:
        try:
            with self._reading:
                self._read_into(request, scheduler)
        except Exception as error:  # the request reads its text itself
            logger.warning("the cache on disk cannot be read: %s", str(error) or type(error).__name__)
        finally:
            with scheduler.lock:
                request.busy = False
                if not scheduler.closed:
                    scheduler.wake()

    def _read_into(self, request: Request, scheduler: Scheduler) -> None:
        """Puts into the cache what the disk has, or where a block is damaged what it has before that."""
        longest = len(request.ids)
        while True:
            with scheduler.lock:
                length = 0 if scheduler.closed or request.done else self._length(request, scheduler.room)
            if not 0 < length < longest:  # a damaged block that cannot be removed would be found again
                return
            if (pages := self._read(request, length)) is not None:
                with scheduler.lock:
                    if not scheduler.closed:
                        before = scheduler.room.known(request.ids, request.mark)
                        request.from_disk = (before, scheduler.room.put_pages(request.ids, length, pages, request.mark))
                return
            longest = length

    def _length(self, request: Request, room: Room) -> int:
        """How many tokens of a request's beginning the disk has, where the cache has less; else 0."""
        count = (len(request.ids) - 1) // BLOCK
        if self._blocks is None or not _is_kept(request) or count == 0:
            return 0
        found, keys = 0, _keys(request, count)
        while found < count and self._has(keys[found]):
            found += 1
        while found and not self._has_tail(keys, found):
            found -= 1
        return found * BLOCK if found * BLOCK > room.known(request.ids, request.mark) else 0

    def _read(self, request: Request, length: int) -> list[NDArray[np.uint8]] | None:
        """The pages of so many tokens, as ``Room.put_pages`` takes them; None where a block is damaged."""
        assert self._blocks is not None
        keys = _keys(request, length // BLOCK)
        shapes = [(len(pool.needed(length)), *pool.shape) for pool in self._pools]
        pages = [np.empty(shape, np.uint8) for shape in shapes]
        whole = [data for pool, data in zip(self._pools, pages, strict=True) if not pool.limited]
        for i, key in enumerate(keys):
            if whole and not self._blocks.read(key, [data[i * _PAGES : (i + 1) * _PAGES] for data in whole]):
                return None
        tail = [data for pool, data in zip(self._pools, pages, strict=True) if pool.limited]
        if tail and not self._blocks.read(_tail(keys[-1]), tail):
            return None
        self._blocks.touch([*keys, *([_tail(keys[-1])] if tail else [])])
        return pages

    def _take(self, request: Request, room: Room) -> Unwritten | None:
        """Copies what the cache has of a prompt that has been read and the disk does not have yet; None: nothing."""
        count, pages = self._whole(request, room, self.keeps_up_to(request) // BLOCK)
        if not count:
            return None
        keys = _keys(request, count)
        whole = [(group, pool) for group, pool in enumerate(self._pools) if not pool.limited]
        blocks = [
            (key, [pool.read([own[group] for own in pages[i * _PAGES : (i + 1) * _PAGES]]) for group, pool in whole])
            for i, key in enumerate(keys)
            if whole and not self._has(key)
        ]
        if self._limited and (self._blocks is None or not self._has_tail(keys, count)):
            needed = [
                (group, pool, pool.needed(count * BLOCK)) for group, pool in enumerate(self._pools) if pool.limited
            ]
            blocks.append((_tail(keys[-1]), [pool.read([pages[i][g] for i in those]) for g, pool, those in needed]))
        if not blocks:
            return None
        return Unwritten(blocks, keys)

    def _write(self, found: Unwritten) -> None:
        """Writes blocks; what the disk refuses is told once in the log, and nothing more is written then."""
        try:
            if (parts := self._parts) is not None:
                parts.file.check_unwritten()
                if self._blocks is None:
                    digest = self._cache.model_digest(parts.file, lambda: parts.sha256)
                    assert digest is not None  # it was computed
                    self._blocks = self._cache.of(self._about(parts, digest))
            if self._blocks is None or not self._cache.has_room(found.nbytes):
                logger.info("the cache on disk is not written: the model is closed, or the disk is nearly full")
                return
            for key, parts_of in found.blocks:
                self._blocks.write(key, parts_of)
            self._blocks.touch(found.keys)
            self._cache.trim()
        except (OSError, ValueError, GGUFError) as error:  # ValueError: the file was closed meanwhile
            self._fails = True
            logger.warning("the cache on disk cannot be written, and is left alone from now on: %s", error)
        finally:
            self._done()

    def _done(self) -> None:
        """A text has been written, or cannot be."""
        with self._written:
            self._writing -= 1
            self._written.notify_all()

    @property
    def _most_blocks(self) -> int:
        """Blocks of one text: half of what there is room for."""
        size = sum(_PAGES * _page_bytes(pool) for pool in self._pools if not pool.limited)
        return self._cache.limit // 2 // size if size else 1 << 20

    def _has(self, key: bytes) -> bool:
        whole = [pool for pool in self._pools if not pool.limited]
        if not whole:
            return True
        return self._blocks is not None and self._blocks.has(key, sum(_PAGES * _page_bytes(pool) for pool in whole))

    def _has_tail(self, keys: Sequence[bytes], count: int) -> bool:
        if not self._limited:
            return True
        size = sum(len(pool.needed(count * BLOCK)) * _page_bytes(pool) for pool in self._pools if pool.limited)
        return self._blocks is not None and self._blocks.has(_tail(keys[count - 1]), size)

    def _whole(self, request: Request, room: Room, count: int) -> tuple[int, list[Pages]]:
        """The most blocks, up to ``count``, behind which the cache has all that a text goes on from; its pages."""
        while count:
            pages, length = room.prefixes.find(
                request.ids, mark=request.mark, limit=count * BLOCK, whole=True, touch=False
            )
            if length == count * BLOCK:
                return count, pages
            count = length // BLOCK
        return 0, []

    def _about(self, parts: LoadedModel, digest: str) -> dict[str, Any]:
        """All that the bytes of a block depend on beside its tokens. The SIMD level is not among it, but for numerics
        that are not exact."""
        numerics = parts.engine.numerics
        return {
            "name": parts.file.path.name, "model": digest, "plan": _digest(repr(parts.engine.plan).encode()).hex(),
            "cache_type": parts.cache.cache_type, "numerics": numerics, "format": _FORMAT, "llamaq": __version__,
            "isa": None if numerics == "exact" else _core.chosen_isa(),
        }  # fmt: skip


def _is_kept(request: Request) -> bool:
    """Whether a request's text is one that others may begin with. The ids of pictures mean something in this process
    alone."""
    wants_last = request.first_wanted >= request.prompt_tokens - 1
    return request.share and wants_last and not request.inserted


def _keys(request: Request, count: int) -> list[bytes]:
    """The keys of a text's first blocks: each of all tokens up to its end, its adapters, and whom it belongs to."""
    keys = [_digest(json.dumps([request.owner, request.mark]).encode())]
    for i in range(count):
        keys.append(_digest(keys[-1] + np.array(request.ids[i * BLOCK : (i + 1) * BLOCK], "<i4").tobytes()))
    return keys[1:]


def _tail(key: bytes) -> bytes:
    """The key of what windows and states have behind a block."""
    return _digest(key + b"tail")


def _page_bytes(pool: PagePool) -> int:
    return math.prod(pool.shape)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
