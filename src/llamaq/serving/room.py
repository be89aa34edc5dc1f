"""Room in the cache: which requests have a sequence there, what the tree keeps of the others, and who reads what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.errors import ContextOverflowError
from llamaq.serving.prefix import Mark, PrefixTree
from llamaq.serving.request import Request

__all__ = ["Beyond", "Room"]


class Beyond(Protocol):
    """What knows beginnings of texts that the cache does not: the disk."""

    def keeps_up_to(self, request: Request) -> int:
        """How many tokens of a request's prompt it will keep."""

    def brings(self, request: Request) -> bool:
        """Whether it has something of a request, and now brings it."""

    def keeps(self, request: Request) -> None:
        """Keeps the prompt of a request, which has been read."""


class Room:
    """Gives requests sequences of a cache, and takes them away again. The scheduler's lock guards it."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.prefixes = PrefixTree(cache)
        self.holders: set[Request] = set()
        """The requests that have a sequence."""
        self.beyond: Beyond | None = None
        self._next_sequence = 0
        self._readers: dict[int, Request] = {}
        """Who reads a page, or has read it: by the key of the text up to its end."""

    @property
    def has_windows(self) -> bool:
        """Whether layers see the tokens near the end alone, or keep a state."""
        return any(pool.limited for pool in self.cache.pools)

    def page_shapes(self, length: int) -> list[tuple[int, int, int]]:
        """The shapes of what ``copy_pages`` gives for so many tokens."""
        pools = self.cache.pools
        return [(len(pool.needed(length)), *pool.shape) for pool in pools]

    def begin(self, request: Request) -> bool:
        """Gives a request its sequence, with what the cache knows of its beginning and room for all its tokens. False
        where it must wait for room; where it never fits, it ends with an error."""
        sequence = self._new_sequence()
        known = self.known(request.ids, request.mark) if request.share else 0
        pages, request.read = self.prefixes.find(request.ids, mark=request.mark, limit=min(known, request.first_wanted))
        self.cache.adopt(sequence, pages, request.read)
        request.node = self.prefixes.root
        while True:
            try:
                self.cache.reserve(sequence, len(request.ids))
                break
            except ContextOverflowError as error:
                if self._release_slow():
                    continue
                self.cache.drop(sequence)
                if self.holders:
                    return False
                request.end(error)
                return True
        request.sequence = sequence
        self.holders.add(request)
        if request.share:
            for key in _page_keys(request)[request.read // PAGE_TOKENS :]:
                self._readers[key] = request
        request.begin()
        if request.cached is None:
            request.cached = request.read
            request.why = request.explain(known, self._limit(request, known))
            if request.disk_tokens:
                request.why += f"; {request.disk_tokens} of those in the cache came from the disk"
        return True

    def grow(self, request: Request, length: int) -> bool:
        """Reserves room for ``length`` tokens of a request that has a sequence. Where there is none, those that came
        later give way and are read again later, and so does this one where it is the last; False then.

        One that is alone and still finds no room ends with an error.
        """
        assert request.sequence is not None
        while True:
            try:
                self.cache.reserve(request.sequence, length)
                return True
            except ContextOverflowError as error:
                if self._release_slow():
                    continue
                last = max(self.holders, key=lambda r: r.age)
                if last is request and len(self.holders) == 1:
                    request.end(error)
                    return False
                self.release(last)
                if last is request:
                    return False

    def step_rows(self, request: Request, rows: int) -> int:
        """How many of ``rows`` to read at once: where the model keeps states, steps end with a page if they can, so
        that other texts can go on from there, and the same text, too, whose last token is read for its logits. One ends
        where the disk keeps a state."""
        if self.cache.states is None:
            return rows
        end = min(request.read + rows, len(request.ids) - 1) // PAGE_TOKENS * PAGE_TOKENS
        if self.beyond is not None and request.read < (kept := self.beyond.keeps_up_to(request)) < end:
            end = kept
        return end - request.read if end > request.read else rows

    def release(self, request: Request, *, partial: bool = False) -> None:
        """Takes a request's sequence away; the tree keeps what it has read."""
        if request.sequence is None:
            return
        self.remember(request, partial=partial)
        self.cache.drop(request.sequence)
        self.holders.remove(request)
        for key in request.page_keys:
            if self._readers.get(key) is request:
                del self._readers[key]
        request.kept = request.read
        request.sequence, request.node, request.read = None, None, 0

    def remember(self, request: Request, *, partial: bool = False) -> None:
        """Lets the tree know the pages that are full, and where ``partial`` the last one too."""
        if not request.share or request.sequence is None or request.node is None:
            return
        if partial or request.read // PAGE_TOKENS > request.node.depth:
            ids = request.ids[: request.read]
            request.node = self.prefixes.insert(request.sequence, ids, request.node, mark=request.mark, partial=partial)
        if self.beyond is not None and not request.kept_on_disk and request.read >= request.prompt_tokens:
            request.kept_on_disk = True
            self.beyond.keeps(request)

    def settle(self, request: Request) -> None:
        """Cuts wrong guesses from a request's sequence, if it has one; right ones that a state loses with them are read
        again. The tree learns of the others at once: where a window moves on, the node that the request comes from may
        go."""
        if request.sequence is not None:
            request.read = self.cache.settle(request.sequence, request.read)
            self.remember(request)

    def cut(self, request: Request, length: int) -> None:
        """Forgets the tokens of a request from ``length`` on. It is read anew, as far as the tree does not know it,
        where the cache no longer has what the next token would see."""
        if request.sequence is not None and request.read > length:
            try:
                self.cache.truncate(request.sequence, length)
            except ValueError:
                self.release(request)
            else:
                request.read = length
                while request.node is not None and request.node.depth * PAGE_TOKENS > length:
                    request.node = request.node.parent
        for key in request.page_keys[length // PAGE_TOKENS :]:
            if self._readers.get(key) is request:
                del self._readers[key]
        del request.page_keys[length // PAGE_TOKENS :], request.ids[length:]

    def is_being_read(self, request: Request) -> bool:
        """Whether another request is just reading pages that this one, which has no sequence, can have from it; or the
        disk brings them."""
        if self.beyond is not None and self.beyond.brings(request):
            return True
        if request.behind is None or not _is_reading(*request.behind):
            request.behind = self._reader(request) if request.share and self._readers else None
        return request.behind is not None

    def clear(self) -> None:
        """Takes all sequences away, and what the tree knows: their requests are read again."""
        for request in self.holders:
            assert request.sequence is not None
            self.cache.drop(request.sequence)
            request.sequence, request.node, request.read, request.kept = None, None, 0, 0
        self.holders.clear()
        self._readers.clear()
        self.prefixes.clear()

    def known(self, tokens: Sequence[int], mark: Mark = ()) -> int:
        """How many tokens of a text's beginning the cache holds."""
        return self.prefixes.find(tokens, mark=mark, touch=False)[1]

    def copy_pages(self, tokens: Sequence[int], mark: Mark = ()) -> tuple[int, list[NDArray[np.uint8]]]:
        """How many tokens of a text's beginning fill pages that the cache has, and for each group the last of these
        pages, as many as a later token sees: (pages, layers, bytes)."""
        # Behind a state the last token is read again for its logits.
        limit = len(tokens) if self.cache.states is None else max(0, len(tokens) - 1)
        pages, length = self.prefixes.find(tokens, mark=mark, limit=limit, whole=True)
        pools = self.cache.pools
        return length, [pool.read([pages[i][group] for i in pool.needed(length)]) for group, pool in enumerate(pools)]

    def put_pages(self, tokens: Sequence[int], length: int, pages: Sequence[NDArray[np.uint8]], mark: Mark = ()) -> int:
        """Puts such pages into the cache where there is room; how many tokens it holds of the text then."""
        sequence = self._new_sequence()
        with suppress(ContextOverflowError):
            self.cache.place(sequence, length)
            own = self.cache.pages(sequence)
            for group, (pool, data) in enumerate(zip(self.cache.pools, pages, strict=True)):
                pool.write([own[i][group] for i in pool.needed(length)], data)
            self.prefixes.insert(sequence, tokens[:length], self.prefixes.root, mark=mark)
        self.cache.drop(sequence)
        return self.known(tokens, mark)

    def _limit(self, request: Request, known: int) -> str:
        """What keeps reading from going on behind more of a text than ``known`` tokens, where it is windows or states
        and not that the text is another one, or had to make room."""
        if not request.share or not self.has_windows:
            return ""
        more = self.prefixes.shared(request.ids, request.mark) > known
        if self.cache.states is None:
            return "more of the text is there, but no longer what windows see behind it" if more else ""
        if not more and known < request.expected // PAGE_TOKENS * PAGE_TOKENS:
            return ""
        return (
            f"reading goes on from a state, which is kept at the end of some pages of {PAGE_TOKENS} tokens, and there "
            "is none for more of the text"
        )

    def _new_sequence(self) -> int:
        self._next_sequence += 1
        return self._next_sequence

    def _release_slow(self) -> bool:
        """Takes its sequence from a request that waits for something outside; whether there was one."""
        slow = [request for request in self.holders if request.slow]
        if slow:
            self.release(max(slow, key=lambda r: r.age))
        return bool(slow)

    def _reader(self, request: Request) -> tuple[Request, int] | None:
        """Who reads the first page that the tree does not know of a request, and the end of the last that it reads."""
        keys, first = _page_keys(request), self.known(request.ids, request.mark) // PAGE_TOKENS
        reader = self._readers.get(keys[first]) if first < len(keys) else None
        if reader is None:
            return None
        last = next((i for i in range(first, len(keys)) if self._readers.get(keys[i]) is not reader), len(keys))
        return (reader, last * PAGE_TOKENS) if _is_reading(reader, last * PAGE_TOKENS) else None


def _is_reading(reader: Request, until: int) -> bool:
    return reader.sequence is not None and not reader.slow and not reader.busy and reader.read < until


def _page_keys(request: Request) -> list[int]:
    """The keys of all full pages. Where two texts have one key by chance, one waits in vain for the other, no more."""
    keys = request.page_keys
    for at in range(len(keys) * PAGE_TOKENS, len(request.ids) - PAGE_TOKENS + 1, PAGE_TOKENS):
        keys.append(hash((keys[-1] if keys else request.mark, *request.ids[at : at + PAGE_TOKENS])))
    return keys
