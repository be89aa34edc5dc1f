"""How many answers run and how many requests wait; who comes when all is full is told when to come again."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from llamaq.boundary.words import counted
from llamaq.server.errors import Refusal, shutting_down

__all__ = ["Admission"]

_LONGEST = 60  # seconds that a client is told to wait


class Admission:
    """A ticket lets a request in, where it is read and waits; places let its answers run, in the order of requests.
    One event loop uses it."""

    def __init__(self, places: int, max_queue: int, seconds: float, per_key: int) -> None:
        self.running = 0
        """Places that are taken."""
        self.tickets = 0
        self.closed = False
        self._places, self._max_queue, self._seconds, self._per_key = places, max_queue, seconds, per_key
        self._of_key: Counter[int] = Counter()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._usual: float | None = None  # seconds that a request lately held its places

    @property
    def waiting(self) -> int:
        """Requests that wait for places."""
        return len(self._waiting)

    @contextmanager
    def ticket(self, key: int | None = None) -> Iterator[None]:
        """Raises ``Refusal`` where too many requests are here already, of all or of one key, or the server shuts
        down."""
        if self.closed:
            raise shutting_down()
        if self.tickets >= self._places + self._max_queue:
            raise self._full("too many requests wait already")
        if key is not None and self._of_key[key] >= self._per_key:
            raise self._full(f"this key has {counted(self._per_key, 'request')} here already")
        self.tickets += 1
        self._of_key[key or 0] += 1
        try:
            yield
        finally:
            self.tickets -= 1
            self._of_key[key or 0] -= 1

    @asynccontextmanager
    async def places(self, answers: int) -> AsyncIterator[None]:
        """Waits for room for so many answers; more than there are places take all, none needs no room. Raises
        ``Refusal`` where it takes too long, or the server shuts down."""
        if not answers:
            yield
            return
        wanted = min(answers, self._places)
        await self._wait(wanted)
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            self._usual = took if self._usual is None else self._usual + 0.2 * (took - self._usual)
            self._leave(wanted)

    def close(self) -> None:
        """Lets nobody in any more; who waits is told."""
        self.closed = True
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(shutting_down())

    async def _wait(self, wanted: int) -> None:
        if self.closed:
            raise shutting_down()
        if not self._waiting and self.running + wanted <= self._places:
            self.running += wanted
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (wanted, future)
        self._waiting.append(entry)
        try:
            await asyncio.wait({future}, timeout=self._seconds)
        except asyncio.CancelledError:
            if future.done() and future.exception() is None:
                self._leave(wanted)  # it was let in just now
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(entry)
            self._let_in()
        if not future.done():
            raise self._full(f"no place became free within {self._seconds:g} seconds")
        future.result()

    def _leave(self, places: int) -> None:
        self.running -= places
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.running + self._waiting[0][0] <= self._places:
            wanted, future = self._waiting.popleft()
            if not future.done():
                self.running += wanted
                future.set_result(None)

    def _full(self, why: str) -> Refusal:
        turns = (self.waiting + self._places) / self._places
        seconds = min(max(math.ceil(turns * (self._usual or 1.0)), 1), _LONGEST)
        message = f"{why}: requests here {self.tickets}, answers at once {self._places}; try again in {seconds} s"
        return Refusal(429, message, code="overloaded", retry_after=seconds)
