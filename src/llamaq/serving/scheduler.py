"""One loop for all that a model reads: rows of many requests in each step, single tokens first, then prompts.

A thread runs the loop while there is something to run, and ends when there is not. Requests come from any thread.
Whatever company a request has, its logits have the same bits (docs/numerics.md).

The loop never stops while somebody waits. The oldest request that has a sequence and no slow reader always gets its
rows: it takes room from the cache's tree, from slow readers and from younger requests, and alone it has room, or ends.
Where no request has a sequence, the oldest that waits gets one. A stall is therefore a fault of the loop itself, which
ends the requests with an error that tells its state.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Engine, StopFlag
from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.errors import CancelledError, ClosedError, ContextOverflowError, LlamaqError
from llamaq.plan.step import Step
from llamaq.serving.prefix import PrefixTree
from llamaq.serving.request import F32, Capture, Request

__all__ = ["Scheduler"]

_FEW = 16  # rows; requests that want no more than so many go first
_PROMPT_ROWS = 128  # of prompts in a step that others wait for with their next token


_schedulers: weakref.WeakSet[Scheduler] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for scheduler in list(_schedulers):
        scheduler.close()


def _in_child() -> None:
    for scheduler in list(_schedulers):
        scheduler.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


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
        self._slow: list[Request] = []  # those that wait for their readers, when rows were last chosen
        self._thread: threading.Thread | None = None
        self._next_sequence = 0
        self._disowned = False
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
            self.check_open()
            self._requests.extend(requests)
            for request in requests:
                if not request.wants_something:
                    request.read = len(request.ids)
                    self._receive(request, request.read, np.empty((0, self._engine.plan.out_cols), np.float32), {})
            self.wake()

    def check_open(self) -> None:
        """Raises ``ClosedError`` where nothing can be asked any more."""
        if self.closed:
            raise self._closed_error()

    def disown(self) -> None:
        """Closes the model in a forked child: the loop runs, and the lock may be held, in the parent alone."""
        self.lock = threading.RLock()
        self._thread, self._requests, self._running = None, [], []
        self.closed = self._disowned = True

    def _closed_error(self) -> ClosedError:
        if self._disowned:
            return ClosedError("the model was loaded before this process was forked; load it in this process")
        return ClosedError("the model is closed; load it again")

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
                    self._end(request, self._closed_error())
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
        """As ``KVCache.page_shape``."""
        return self._cache.page_shape

    def copy_pages(self, tokens: Sequence[int]) -> NDArray[np.uint8]:
        """The full pages that the cache has of a text's beginning, (pages, layers, bytes)."""
        with self.lock:
            self.check_open()
            pages, known = self.prefixes.find(tokens)
            return self._cache.read_pages(pages[: known // PAGE_TOKENS])

    def put_pages(self, tokens: Sequence[int], pages: NDArray[np.uint8]) -> int:
        """Puts such pages into the cache, as far as there is room; how many tokens it holds of the text then."""
        with self.lock:
            self.check_open()
            self._next_sequence += 1
            sequence, length = self._next_sequence, len(pages) * PAGE_TOKENS
            with suppress(ContextOverflowError):
                self._cache.reserve(sequence, length)
                self._cache.write_pages(self._cache.pages(sequence), pages)
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
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Runs one step; False, and the loop has ended, where there is nothing to run."""
        with self.lock:
            try:
                rows = self._choose()
            except BaseException as error:  # nobody must wait for what never comes
                self._give_up(error)
                rows = {}
            if not rows and any(r.done for r in self._requests):
                return True
            if not rows:
                self._thread = None
                return False
            self._stop.set(False)
            self._running = list(rows)
        try:
            if all(r.done for r in rows):  # abandoned before it could be seen that they run
                return True
            logits, captured = self._step(rows)
            with self.lock:
                self._share_out(rows, logits, captured)
        except CancelledError:
            pass
        except BaseException as error:
            self._fail(rows, error)
        finally:
            self._running = []
        return True

    def _fail(self, requests: Iterable[Request], error: BaseException) -> None:
        with self.lock:
            for request in requests:
                if not request.done:
                    self._end(request, error)

    def _give_up(self, error: BaseException) -> None:
        """Ends all requests; their sequences go without a trace in the tree, which may be what is wrong."""
        self._fail(self._requests, error)
        for request in self._requests:
            if request.sequence is not None:
                self._cache.drop(request.sequence)
        self._requests.clear()

    def _choose(self) -> dict[Request, int]:
        """How many rows of which requests come next; room in the cache is theirs already."""
        for request in [r for r in self._requests if r.done]:
            self._release(request, partial=True)
            self._requests.remove(request)
        self._slow = [r for r in self._requests if r.paused]
        ready = [r for r in self._requests if r not in self._slow]
        running = [r for r in ready if r.sequence is not None]
        chosen: dict[Request, int] = {}
        for request in sorted(running, key=lambda r: r.pending > _FEW):
            if request.sequence is not None:  # which an older one may have needed
                self._choose_rows(request, chosen)
        for request in ready:
            if request.sequence is None and not self._is_being_read(request, ready):
                if not self._begin(request):
                    break  # no room: those behind it wait too
                if not request.done:
                    self._choose_rows(request, chosen)
        if not chosen and ready and not any(r.done for r in self._requests):
            raise LlamaqError(f"the scheduler came to a stand, which is a fault of llamaq; its state: {self._state()}")
        return chosen

    def _choose_rows(self, request: Request, chosen: dict[Request, int]) -> None:
        """Chooses as many rows of a request that has a sequence as there are left, and room in the cache for."""
        left = self._engine.max_rows - sum(chosen.values())
        if request.pending > _FEW and any(r.pending <= _FEW for r in chosen):
            left = min(left, _PROMPT_ROWS - sum(n for r, n in chosen.items() if r.pending > _FEW))
        count = min(request.pending, left, request.max_rows or left)
        if count > 0 and self._has_room(request, request.read + count, chosen):
            chosen[request] = count

    def _state(self) -> str:
        """What there is to choose from, for the report of a stall."""
        requests = [
            f"{type(r).__name__}(tokens={len(r.ids)}, read={r.read}, sequence={r.sequence}, paused={r.paused})"
            for r in self._requests
        ]
        return f"{self._cache.free_tokens} tokens free of {self._cache.n_ctx}, requests [{', '.join(requests)}]"

    def _is_being_read(self, request: Request, ready: list[Request]) -> bool:
        """Whether another of those that go on is just reading pages that this one can have from it."""
        others = [r for r in ready if r.sequence is not None and r.share and r.pending > 1]
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
            request.why = request.explain(known)
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
        for request in reversed(self._slow):
            if request.sequence is not None:
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
                self._receive(request, first, logits[given : given + n], own)
            row, given = row + count, given + n

    def _receive(self, request: Request, first: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        """Gives a request what a step made of its rows; what goes wrong there ends it alone."""
        try:
            request.receive(first, logits, captured)
            if not request.done and len(request.ids) > self.n_ctx:
                self._release(request)
                request.shift()
        except BaseException as error:
            self._end(request, error)


def _begin_alike(a: list[int], b: list[int], n: int) -> bool:
    return len(a) >= n <= len(b) and a[:n] == b[:n]
