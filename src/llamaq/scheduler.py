"""One loop for all that a model reads: rows of many requests in each step, single tokens first, then prompts.

A thread runs the loop while there is something to run, and ends when there is not. Requests come from any thread.
Whatever company a request has, its logits have the same bits (docs/numerics.md).
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from llamaq.engine import Engine, StopFlag
from llamaq.errors import CancelledError, ClosedError, ContextOverflowError, LlamaqError
from llamaq.kv_cache import PAGE_TOKENS, KVCache
from llamaq.prefix import PrefixTree
from llamaq.request import F32, Capture, Request
from llamaq.step import Step

__all__ = ["Scheduler"]

_FEW = 16  # rows; requests that want no more than so many go first
_PROMPT_ROWS = 128  # of prompts in a step that others wait for with their next token


_schedulers: weakref.WeakSet[Scheduler] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for scheduler in list(_schedulers):
        scheduler.close()


class Scheduler:
    """Runs requests on an engine and a cache; ``lock`` guards all state but the running step's."""

    def __init__(self, engine: Engine, cache: KVCache, n_ctx: int) -> None:
        self.n_ctx = n_ctx
        self.closed = False
        self.lock = threading.RLock()
        self.prefixes = PrefixTree(cache)
        self._engine = engine
        self._cache = cache
        self._stop = StopFlag()
        self._requests: list[Request] = []
        self._running: list[Request] = []  # those of the step that runs now
        self._thread: threading.Thread | None = None
        self._next_sequence = 0
        _schedulers.add(self)

    @property
    def idle(self) -> bool:
        """Whether the loop has ended, until there is something to run again."""
        return self._thread is None

    def submit(self, *requests: Request) -> None:
        """Begins requests, in their order. Raises ``ClosedError``, and ``LlamaqError`` where the loop itself asks."""
        if threading.current_thread() is self._thread:
            raise LlamaqError("a logit processor cannot ask its own model for something: nobody would read it")
        with self.lock:
            if self.closed:
                raise ClosedError("the model is closed; load it again")
            self._requests.extend(requests)
            self.wake()

    def cancel(self, request: Request) -> None:
        """Ends a request; a step that nobody else waits for is stopped."""
        with self.lock:
            if not request.done:
                self._end(request, None)
                self.abandon(request)
                self.wake()

    def abandon(self, request: Request) -> None:
        """``cancel`` for a request whose events nobody can read any more. Takes no lock: the garbage collector calls it
        at any point of any thread, the loop's included."""
        request.done = True
        running = self._running
        if running and all(r.done for r in running):
            self._stop.set()

    def cancel_all(self) -> None:
        """Ends all requests."""
        with self.lock:
            for request in list(self._requests):
                self.cancel(request)

    def wake(self) -> None:
        """Sees to it that the loop runs."""
        with self.lock:
            if self._thread is None and self._requests:
                try:
                    # The end of the process does not wait for what nobody will read (_at_exit).
                    self._thread = threading.Thread(target=self._loop, name="llamaq-scheduler", daemon=True)
                    self._thread.start()
                except BaseException:  # Ctrl-C, and nobody knows whether it has started
                    self._thread = None
                    raise

    def close(self) -> None:
        """Ends all requests with ``ClosedError`` and waits for the loop to end."""
        with self.lock:
            self.closed = True
            for request in self._requests:
                if not request.done:
                    self._end(request, ClosedError("the model is closed; load it again"))
            self._stop.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def known(self, tokens: Sequence[int]) -> int:
        """How many tokens of a text's beginning the cache holds."""
        with self.lock:
            return self.prefixes.find(tokens, touch=False)[1]

    @property
    def page_shape(self) -> tuple[int, int]:
        """Layers and bytes of a page in each."""
        layers, _, size = self._cache.by_page().shape
        return layers, size

    def copy_pages(self, tokens: Sequence[int]) -> NDArray[np.uint8]:
        """The full pages that the cache has of a text's beginning, (pages, layers, bytes)."""
        with self.lock:
            pages, known = self.prefixes.find(tokens)
            return np.ascontiguousarray(self._cache.by_page()[:, pages[: known // PAGE_TOKENS]].swapaxes(0, 1))

    def put_pages(self, tokens: Sequence[int], pages: NDArray[np.uint8]) -> int:
        """Puts such pages into the cache, as far as there is room; how many tokens it holds of the text then."""
        with self.lock:
            self._next_sequence += 1
            sequence, length = self._next_sequence, len(pages) * PAGE_TOKENS
            with suppress(ContextOverflowError):
                self._cache.reserve(sequence, length)
                self._cache.by_page()[:, self._cache.pages(sequence)] = pages.swapaxes(0, 1)
                self._cache.commit(sequence, length)
                self.prefixes.insert(sequence, tokens[:length], self.prefixes.root)
            self._cache.drop(sequence)
            return self.known(tokens)

    def _end(self, request: Request, error: BaseException | None) -> None:
        request.done = True
        request.end(error)

    def _loop(self) -> None:
        with self.lock:
            if self._thread not in (None, threading.current_thread()):
                return  # another one was started in its place
            self._thread = threading.current_thread()
        while True:
            with self.lock:
                try:
                    rows = self._choose()
                except BaseException as error:  # nobody must wait for what never comes
                    self._fail(self._requests, error)
                    self._requests.clear()
                    rows = {}
                if not rows and any(r.done for r in self._requests):
                    continue
                if not rows:
                    self._thread = None
                    return
                self._stop.set(False)
                self._running = list(rows)
            try:
                if all(r.done for r in rows):  # abandoned before it could be seen that they run
                    continue
                logits, captured = self._step(rows)
            except CancelledError:
                continue
            except BaseException as error:
                self._fail(rows, error)
                continue
            finally:
                self._running = []
            with self.lock:
                self._share_out(rows, logits, captured)

    def _fail(self, requests: Mapping[Request, int] | list[Request], error: BaseException) -> None:
        with self.lock:
            for request in requests:
                if not request.done:
                    self._end(request, error)

    def _choose(self) -> dict[Request, int]:
        """How many rows of which requests come next; room in the cache is theirs already."""
        for request in [r for r in self._requests if r.done]:
            self._release(request, partial=True)
            self._requests.remove(request)
        chosen: dict[Request, int] = {}
        rows, prompts = self._engine.max_rows, self._engine.max_rows
        ready = [r for r in self._requests if not r.paused]
        for request in sorted(ready, key=lambda r: r.pending > _FEW or r.sequence is None):
            if request.sequence is None:
                if self._is_being_read(request):
                    continue
                if not self._begin(request):
                    break  # no room: those behind it wait too
            if request.done:
                continue
            few = request.pending <= _FEW
            limit = rows if few else min(rows, prompts)
            count = min(request.pending, limit, request.max_rows or limit)
            if count > 0 and self._has_room(request, request.read + count, chosen):
                chosen[request] = count
                rows -= count
                prompts = min(prompts, _PROMPT_ROWS) if few else prompts - count
        return chosen

    def _is_being_read(self, request: Request) -> bool:
        """Whether another request is just reading pages that this one can have from it."""
        others = [r for r in self._requests if r.sequence is not None and r.share and r.pending > 1 and not r.paused]
        if not others or not request.share:
            return False
        _, known = self.prefixes.find(request.ids, touch=False)
        return any(_begin_alike(r.ids, request.ids, max(known + PAGE_TOKENS, r.read + 1)) for r in others)

    def _begin(self, request: Request) -> bool:
        """Gives a request its sequence, with what the cache knows of its beginning and room for all its tokens."""
        self._next_sequence += 1
        sequence = self._next_sequence
        pages, known = self.prefixes.find(request.ids) if request.share else ([], 0)
        request.read = min(known, request.first_wanted)
        self._cache.adopt(sequence, pages[: -(-request.read // PAGE_TOKENS)], request.read)
        request.node = self.prefixes.root
        while True:
            try:
                self._cache.reserve(sequence, len(request.ids))
                break
            except ContextOverflowError as error:
                if self._release_paused():
                    continue
                self._cache.drop(sequence)
                if any(r.sequence is not None for r in self._requests):
                    return False
                self._end(request, error)
                return True
        request.sequence = sequence
        request.begin()
        if request.cached is None:
            request.cached = request.read
            request.why = _why(request, known)
        return True

    def _has_room(self, request: Request, length: int, chosen: dict[Request, int]) -> bool:
        """Reserves the room; where there is none, requests that came later give way and are read again later."""
        assert request.sequence is not None
        while True:
            try:
                self._cache.reserve(request.sequence, length)
                return True
            except ContextOverflowError as error:
                if self._release_paused():
                    continue
                last = next(r for r in reversed(self._requests) if r.sequence is not None)
                if last is request and sum(r.sequence is not None for r in self._requests) == 1:
                    self._end(request, error)
                    return False
                chosen.pop(last, None)
                self._release(last)
                if last is request:
                    return False

    def _release_paused(self) -> bool:
        """Takes its sequence from a request that waits for its reader; whether there was one."""
        for request in reversed(self._requests):
            if request.sequence is not None and request.paused:
                self._release(request)
                return True
        return False

    def _release(self, request: Request, *, partial: bool = False) -> None:
        """Takes a request's sequence away; the tree keeps what it has read."""
        if request.sequence is None:
            return
        self._remember(request, partial=partial)
        self._cache.drop(request.sequence)
        request.kept = request.read
        request.sequence, request.node, request.read = None, None, 0

    def _remember(self, request: Request, *, partial: bool = False) -> None:
        """Lets the tree know the pages that are full, and where ``partial`` the last one too."""
        if not request.share or request.sequence is None or request.node is None:
            return
        if partial or request.read // PAGE_TOKENS > request.node.depth:
            ids = request.ids[: request.read]
            request.node = self.prefixes.insert(request.sequence, ids, request.node, partial=partial)

    def _step(self, rows: Mapping[Request, int]) -> tuple[F32, dict[Capture, F32]]:
        parts = []
        for request, count in rows.items():
            assert request.sequence is not None
            start, end = request.read, request.read + count
            part = Step.of(request.ids[start:end], sequence=request.sequence, start=start, wanted="none")
            part.wanted[max(0, request.first_wanted - start) :] = True
            parts.append(part)
        step = parts[0] if len(parts) == 1 else Step.join(parts)
        wanted = {capture for request in rows for capture in request.captures}
        captured = {c: np.empty((len(step), c[2]), np.float32) for c in wanted}
        places = {(op, slot): array for (op, slot, _), array in captured.items()}
        return self._engine.forward(step, self._cache, stop=self._stop, captures=places), captured

    def _share_out(self, rows: Mapping[Request, int], logits: F32, captured: Mapping[Capture, F32]) -> None:
        row = given = 0
        for request, count in rows.items():
            first, request.read = request.read, request.read + count
            n = max(0, request.read - max(first, request.first_wanted))
            if not request.done:
                self._remember(request, partial=first < request.prompt_tokens <= request.read)
                own = {c: captured[c][row : row + count] for c in request.captures}
                try:
                    request.receive(first, logits[given : given + n], own)
                    if not request.done and len(request.ids) > self.n_ctx:
                        self._release(request)
                        request.shift()
                except BaseException as error:
                    self._end(request, error)
            row, given = row + count, given + n


def _begin_alike(a: list[int], b: list[int], n: int) -> bool:
    return len(a) >= n <= len(b) and a[:n] == b[:n]


def _why(request: Request, known: int) -> str:
    """The sentence behind ``Session.why``."""
    total = request.prompt_tokens
    if not request.share:
        return f"none of the {total} tokens came from the cache: the request reads everything itself"
    if known < request.expected:
        gone = f"what was read of it before, up to token {request.expected}, had to make room for other texts"
        return f"{request.read} of the {total} tokens were in the cache; {gone}"
    if known == 0:
        return f"none of the {total} tokens were in the cache: no text in it begins with the same token"
    if request.read < known or known == total:
        return f"{request.read} of the {total} tokens were in the cache; the others are read for their logits"
    return f"{known} of the {total} tokens were in the cache; no text in it goes on with the same token after them"
