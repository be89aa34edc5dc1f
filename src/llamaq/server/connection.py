"""One client's connection: whether it is still there, whether it reads, and signs of life for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.types import Receive, Send

from llamaq.server.dialect import Dialect
from llamaq.server.errors import Gone, Refusal
from llamaq.server.settings import Settings

__all__ = ["PieceWriter", "in_time", "unless_gone"]

T = TypeVar("T")

_TURN = 4  # pieces after which others have their turn in any case, and that the client is gone is seen
_AGAIN = 0.1  # seconds
_LOOK = 0.25  # part of the shorter time limit after which the writer's clock is looked at


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T], is_sent: Callable[[], bool]) -> T:
    """The result of ``work``, which is cancelled when the client hangs up before the answer is sent; then raises
    ``Gone``. The body has been read before."""
    answer = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() or is_sent():
            return await answer
        raise Gone
    finally:
        watch.add_done_callback(_is_known)
        watch.cancel()  # to wait for it would cost each request two turns of the loop
        await _end(answer)


async def _end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancels tasks until they have ended: one that gets what it waits for in the same turn of the loop may not notice
    the first time (asyncio.wait_for before Python 3.12)."""
    for task in tasks:
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_AGAIN)
        if task is not None:
            _is_known(task)


def _is_known(task: asyncio.Task[Any]) -> None:
    """Sees to it that nobody is told of a task whose error was not asked for."""
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def in_time(seconds: float, late: Refusal, is_in_time: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
    """A block that ends with ``late`` where it takes longer, unless ``is_in_time`` says then that it does not."""
    if seconds == math.inf:
        yield
        return
    task, is_late = asyncio.current_task(), False
    assert task is not None

    def end() -> None:
        nonlocal is_late
        is_late = not is_in_time()
        if is_late:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), end)
    try:
        yield
    except asyncio.CancelledError:
        if not is_late:
            raise
        raise late from None
    finally:
        timer.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class PieceWriter:
    """Writes an answer in pieces; as an async context manager it keeps a silent stream alive and ends one that nobody
    reads, with ``Gone``."""

    def __init__(self, send: Send, settings: Settings, dialect: Dialect) -> None:
        self.begun = False
        """Whether the status has been sent: no other answer can be given."""
        self._send = send
        self._dialect = dialect
        self._ping, self._patience = settings.ping_seconds, settings.send_seconds
        self._lock = asyncio.Lock()
        self._since: float | None = None  # when what is being sent was given
        self._latest = time.monotonic()
        self._stalled = False
        self.ended = False
        """Whether all of the answer has been sent."""
        self._pieces = 0
        self._clock: asyncio.Task[None] | None = None
        self._sign: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PieceWriter:
        task = asyncio.current_task()
        assert task is not None
        self._clock = asyncio.ensure_future(self._watch(task))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await _end(self._clock, self._sign)
        if self._stalled and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Gone from None

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Sends the status 200 and the headers."""
        own = {"content-type": self._dialect.media_type, "cache-control": "no-store", "x-accel-buffering": "no"}
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in {**own, **headers}.items()]
        self.begun = True
        await self._put({"type": "http.response.start", "status": 200, "headers": pairs})

    async def write(self, piece: str) -> None:
        await self._put({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        self._pieces += 1
        if self._pieces % _TURN == 0:
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Ends the answer as a whole one."""
        await self._put({"type": "http.response.body", "body": b"", "more_body": False})
        self.ended = True

    async def _put(self, message: dict[str, Any]) -> None:
        async with self._lock:
            if self.ended:
                return
            self._since = time.monotonic()
            try:
                await self._send(message)
            except OSError:
                raise Gone from None
            self._latest, self._since = time.monotonic(), None

    async def _watch(self, task: asyncio.Task[Any]) -> None:
        while True:
            await asyncio.sleep(min(self._ping, self._patience) * _LOOK)
            now = time.monotonic()
            if self._since is not None:
                if now - self._since > self._patience:
                    self._stalled = True
                    task.cancel()
                    return
            elif self._dialect.ping and self.begun and now - self._latest > self._ping:
                # Not waited for: a client that does not read must not stop the clock.
                sign = {"type": "http.response.body", "body": self._dialect.ping.encode(), "more_body": True}
                self._sign = asyncio.ensure_future(self._put(sign))
                self._latest = now
