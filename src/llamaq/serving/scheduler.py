"""One loop for all that a model reads: rows of many requests in each step, single tokens first, then prompts.

A worker runs the loop while there is something to run. Requests come from any thread.
Whatever company a request has, its logits have the same bits (docs/numerics.md).

What requests make of their logits (samples, texts, scores) is worked out without the lock: by the loop's thread, one
after the other, or where functions of the user take part in it, by a thread of its own. The loop waits for such threads
as long as its step took, so that requests stay together in their steps, and then goes on with the others.

The loop never stops while somebody waits. The oldest request that has a sequence, is not busy with its logits and has
no slow reader always gets its rows: it takes room from the cache's tree, from slow readers and from younger requests,
and alone it has room, or ends. Where no request has a sequence, the oldest that waits gets one. Where nothing can be
chosen because busy requests hold the room, one of them may be waiting for one that has none: so after a while they
lose it to whoever needs it, as slow readers do. The thread of a busy request wakes the loop. A stall is therefore a
fault of the loop itself, which ends the requests with an error that tells its state.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Engine, StopFlag
from llamaq.engine.kv_cache import CacheLost, KVCache
from llamaq.errors import CancelledError, ClosedError, LlamaqError
from llamaq.plan.inserted import step_of
from llamaq.plan.step import Step
from llamaq.serving.adaptation import BASE, Adapters
from llamaq.serving.choice import choose, choose_whole, ready
from llamaq.serving.occupancy import Occupancy
from llamaq.serving.prefix import Mark
from llamaq.serving.request import F32, Capture, Request
from llamaq.serving.room import Room
from llamaq.serving.speculation import MOST_ROWS, Speculation
from llamaq.serving.workers import Workers

__all__ = ["Scheduler"]

_PATIENCE = 0.1
"""Seconds for which requests without room wait for busy ones that hold it."""

_LINGER = 0.1
"""Seconds that the loop waits for slow readers: beginning it anew may take longer than a small model's step."""

_EXIT_SECONDS = 1.0
"""Seconds that the end of the process waits for threads of requests: one in the middle of C++ may not be ended."""

Work: TypeAlias = tuple[Request, int, F32, Mapping[Capture, F32]]
"""A request and the arguments of its ``work``."""


_schedulers: weakref.WeakSet[Scheduler] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for scheduler in list(_schedulers):
        scheduler.close()
    for scheduler in list(_schedulers):
        scheduler.workers.wait(_EXIT_SECONDS)


def _in_child() -> None:
    for scheduler in list(_schedulers):
        scheduler.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Scheduler:
    """Runs requests on an engine and a cache; ``lock`` guards all state but the running step's."""

    def __init__(self, engine: Engine, cache: KVCache, n_ctx: int, adapters: Adapters | None = None) -> None:
        self.n_ctx = n_ctx
        self._adapters = adapters
        self.closed = False
        self.lock = threading.RLock()
        self.room = Room(cache)
        self.speculation = Speculation(cache)
        self.workers = Workers()
        self._changed = threading.Condition(self.lock)  # notified when something comes that the loop waits for
        self._engine = engine
        self._stop = StopFlag()
        self._requests: list[Request] = []
        self._running: list[Request] = []  # requests of the step that runs now
        self._loops = False  # whether the loop runs, or is about to
        self._thread: threading.Thread | None = None  # the loop's, while it runs
        self._turned: float | None = None  # when the loop's last turn began, unless it rests
        self._looks = True  # whether the loop chooses rows or has none: it must be told what changes
        self._lingers = False  # whether it waits for slow readers
        self._stuck: float | None = None  # since when nothing can be chosen while somebody waits
        self._submitted = 0
        self._disowned = False
        _schedulers.add(self)

    @property
    def idle(self) -> bool:
        """Whether the loop has ended, until there is something to run again."""
        return not self._loops

    @property
    def silence(self) -> float:
        """Seconds since the loop began what it is doing: reading a step, or working on its logits."""
        turned = self._turned
        return 0.0 if turned is None else time.monotonic() - turned

    @property
    def occupancy(self) -> Occupancy:
        """What is asked for now. Raises ``ClosedError``."""
        with self.lock:
            self.check_open()
            asked = [request for request in self._requests if not request.done]
            running = sum(request.sequence is not None or request in self._running for request in asked)
            cache = self.room.cache
            room = cache.n_ctx if cache.pools else 0
            return Occupancy(running, len(asked) - running, room, min(cache.free_tokens, room))

    def submit(self, *requests: Request) -> None:
        """Begins requests, in their order. Raises ``ClosedError``, and ``LlamaqError`` where the loop itself asks."""
        if threading.current_thread() is self._thread:
            raise LlamaqError("the model's own thread cannot ask it for something: nobody would read it")
        with self.lock:
            self.check_open()
            for request in requests:
                self._submitted += 1
                request.age = self._submitted
                if request.adaptation is None:
                    request.adaptation = BASE if self._adapters is None else self._adapters.of(None)
            self._requests.extend(request for request in requests if request.wants_something)
            self.wake()
        for request in requests:
            if not request.wants_something:
                self._work(request, len(request.ids), np.empty((0, self._engine.plan.out_cols), np.float32), {})

    def check_open(self) -> None:
        """Raises ``ClosedError`` where nothing can be asked any more."""
        if self.closed:
            raise self._closed_error()

    def disown(self) -> None:
        """Closes the model in a forked child: the loop runs, and the lock may be held, in the parent alone."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self.workers = Workers()
        self._thread, self._loops, self._requests, self._running = None, False, [], []
        self.closed = self._disowned = True

    def _closed_error(self) -> ClosedError:
        if self._disowned:
            return ClosedError("the model was loaded before this process was forked; load it in this process")
        return ClosedError("the model is closed; load it again")

    def cancel(self, request: Request) -> None:
        """Ends a request; a step that nobody else waits for is stopped."""
        with self.lock:
            if not request.done:
                request.end(None)
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

    def read_on(self) -> None:
        """Wakes the loop where it may have taken for slow a reader who has just read all there was."""
        if self._looks:  # this is set before it asks who is slow
            self.wake()

    def wake(self) -> None:
        """Sees to it that the loop runs, and looks at the requests again where it waits."""
        with self.lock:
            self._lingers = False
            if self._loops:
                self._changed.notify_all()
            elif self._requests:
                try:
                    self._loops = True
                    self.workers.run(self._loop)
                except BaseException:  # this is Ctrl-C, and nobody knows whether the loop has begun
                    self._loops = False
                    raise

    def close(self) -> None:
        """Ends all requests with ``ClosedError`` and waits for the loop to end, though not for functions of the user
        that it has called."""
        with self.lock:
            self.closed = True
            self._fail(self._requests, self._closed_error())
            self._stop.set()
            self._changed.notify_all()
            self.workers.close()
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(lambda: self.idle)

    def known(self, tokens: Sequence[int], mark: Mark = ()) -> int:
        """How many tokens of a text's beginning the cache holds."""
        with self.lock:
            return self.room.known(tokens, mark)

    def copy_pages(self, tokens: Sequence[int], mark: Mark = ()) -> tuple[int, list[NDArray[np.uint8]]]:
        """Does what ``Room.copy_pages`` does. Raises ``ClosedError``."""
        with self.lock:
            self.check_open()
            return self.room.copy_pages(tokens, mark)

    def put_pages(self, tokens: Sequence[int], length: int, pages: Sequence[NDArray[np.uint8]], mark: Mark = ()) -> int:
        """Does what ``Room.put_pages`` does. Raises ``ClosedError``."""
        with self.lock:
            self.check_open()
            return self.room.put_pages(tokens, length, pages, mark)

    def _loop(self) -> None:
        with self.lock:
            if self._thread is not None:
                return  # another one has begun in its place
            self._thread, self._loops = threading.current_thread(), True
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Runs one step, or waits for what may make one possible; False: nothing can, and the loop has ended."""
        with self.lock:
            self._looks = True
            rows = self._choose()
            self._turned = time.monotonic() if rows else None
            if not rows:
                return any(r.done for r in self._requests) or self._rest()
            self._looks = self._lingers = False
            self._stop.set(False)
            self._running = list(rows)
        began = time.monotonic()
        try:
            if not all(r.done for r in rows):  # abandoned before it could be seen that they run
                self.speculation.draft(rows, self._engine.max_rows, self.lock)
                logits, captured = self._step(rows)
                here, away = self._share_out(rows, logits, captured)
                self._running = []
                self._work_on(here, away, time.monotonic() - began)
        except CancelledError:
            pass
        except CacheLost:
            with self.lock:
                self.room.clear()
        except BaseException as error:
            self._fail(rows, error)
        finally:
            self._running = []
        return True

    def _choose(self) -> dict[Request, int]:
        """The rows that come next; where that goes wrong, all requests end with the error."""
        try:
            for request in [r for r in self._requests if r.done]:
                self.room.release(request, partial=True)
                self.speculation.forget(request)
                self._requests.remove(request)
            patient = self._stuck is None or time.monotonic() - self._stuck < _PATIENCE
            if self._engine.plan.encodes:
                rows = choose_whole(self._requests, self.room, self._engine.max_rows)
            else:
                rows = choose(self._requests, self.room, self._engine.max_rows, patient=patient)
            if rows or not any(map(ready, self._requests)) or any(r.done for r in self._requests):
                self._stuck = None
            elif not any(r.busy and not r.slow for r in self._requests):
                raise LlamaqError(f"the scheduler came to a stand, a fault of llamaq; its state: {self._state()}")
            elif self._stuck is None:
                self._stuck = time.monotonic()
            return rows
        except BaseException as error:  # nobody must wait for what never comes
            self._fail(self._requests, error)
            self.room.clear()
            self._requests.clear()
            return {}

    def _rest(self) -> bool:
        """Waits while there are busy requests, and a little for slow readers; False: the loop has ended."""
        if not any(r.busy for r in self._requests):
            if self._requests and not self._lingers:
                self._lingers = True
                self._changed.wait(_LINGER)
                return True  # whoever came just now began no loop
            self._thread, self._loops, self._lingers = None, False, False
            self._changed.notify_all()
            return False
        left = None if self._stuck is None else self._stuck + _PATIENCE - time.monotonic()
        if left is None or left > 0:
            self._changed.wait(left)
        return True

    def _fail(self, requests: Iterable[Request], error: BaseException) -> None:
        with self.lock:
            for request in requests:
                if not request.done:
                    request.end(error)

    def _state(self) -> str:
        """What there is to choose from, for the report of a stall."""
        return f"{self.room.cache.free_tokens} tokens free of {self.room.cache.n_ctx}, requests {self._requests}"

    def _step(self, rows: Mapping[Request, int]) -> tuple[F32, dict[Capture, F32]]:
        parts = []
        for request, count in rows.items():
            assert request.sequence is not None
            start, end = request.read, request.read + count
            ids = request.ids[start:end] + request.drafts
            part = step_of(
                ids, request.inserted, sequence=request.sequence, start=start, adapters=request.adapted,
                places=request.places, text=request.ids,
            )  # fmt: skip
            part.wanted[max(0, request.first_wanted - start) :] = True
            parts.append(part)
        step = parts[0] if len(parts) == 1 else Step.join(parts)
        captured = {c: np.empty((len(step), c[2]), np.float32) for request in rows for c in request.captures}
        places = {(op, slot): array for (op, slot, _), array in captured.items()}
        began = time.perf_counter()
        logits = self._engine.forward(step, self.room.cache, stop=self._stop, captures=places)
        if len(logits) == len(step) <= MOST_ROWS:  # it has next tokens and guesses alone, no piece of a prompt
            self.speculation.costs.note(len(step), time.perf_counter() - began)
        return logits, captured

    def _share_out(
        self, rows: Mapping[Request, int], logits: F32, captured: Mapping[Capture, F32]
    ) -> tuple[list[Work], list[Work]]:
        """Notes what has been read. What the requests have to work on: here, and on threads of their own."""
        here: list[Work] = []
        away: list[Work] = []
        row = given = 0
        with self.lock:
            for request, count in rows.items():
                first, request.read = request.read, request.read + count
                count += len(request.drafts)
                n = max(0, first + count - max(first, request.first_wanted))
                if not request.done:
                    self.room.remember(request, partial=first < request.prompt_tokens <= request.read)
                    own = {c: captured[c][row : row + count] for c in request.captures}
                    work = (request, request.read, logits[given : given + n], own)
                    (away if n and request.runs_foreign_code else here).append(work)
                    request.busy = True
                row, given = row + count, given + n
        return here, away

    def _work_on(self, here: Sequence[Work], away: Sequence[Work], seconds: float) -> None:
        """Has requests do their work, and waits so many seconds at most for those that have a thread for it."""
        came = self._submitted  # one that comes from now on may be what they wait for
        for work in away:
            try:
                self.workers.run(partial(self._work, *work))
            except RuntimeError as error:
                self._fail([work[0]], error)
        for work in here:
            self._work(*work)
        if away:
            with self.lock:
                self._changed.wait_for(
                    lambda: came != self._submitted or all(r.done or not r.busy for r, *_ in away), seconds
                )

    def _work(self, request: Request, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        """What a request makes of its rows; what goes wrong there ends it alone."""
        settle = request.settle
        try:
            request.work(read, logits, captured)
        except BaseException as error:
            settle = partial(request.end, error)
        with self.lock:
            request.busy = False
            try:
                if not request.done:
                    settle()
                self.room.settle(request)
                if not request.done and len(request.ids) > self.n_ctx:
                    self.room.release(request)
                    request.page_keys.clear()
                    request.shift()
            except BaseException as error:
                request.end(error)
            self._changed.notify_all()
