"""The reader's half of an answer: events that a thread or a coroutine waits for, and the whole of them as a result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Literal, TypedDict

from llamaq.boundary.arguments import real
from llamaq.boundary.progress import Progress
from llamaq.errors import ReceiptError
from llamaq.sampling import SamplingParams
from llamaq.serving.adaptation import AdapterChoice
from llamaq.serving.answer import Event, FinishReason
from llamaq.serving.generation import Generation, Item
from llamaq.serving.interrupt import LONGEST, at_once
from llamaq.serving.receipt import Receipt
from llamaq.serving.said import Said
from llamaq.serving.scheduler import Scheduler

if TYPE_CHECKING:
    import asyncio

__all__ = ["Completion", "Options", "Overflow", "Stream", "Usage"]

Overflow = Literal["error", "truncate_left", "shift"]
"""What to do with more tokens than the context has room for (docs/sessions.md)."""


_UNRECORDED = "the answer was not recorded; ask for it with receipt=True"


class Options(TypedDict, total=False):
    """What an answer is asked for with; nothing needs to be given.

    ``max_tokens`` None (the default) means until an end token, a stop string or the end of the context. ``sampling``
    are llama.cpp's defaults where not given. The text ends before the first of the ``stop`` strings; ``special``
    shows control tokens in it, all or these. ``overflow`` says what becomes of tokens that the context has no room for:
    "error" raises ``ContextOverflowError`` for such a prompt, "truncate_left" drops its oldest tokens, after the first
    ``keep`` (BOS at least), and "shift" does so while the answer grows, too; ``usage.dropped_tokens`` counts them.
    After ``timeout`` seconds (None or infinity: never) the answer ends as "cancelled". ``adapter`` is a loaded adapter
    or its name, or several with their scales ({}: none of them); None takes ``LLM.adapter``. A ``prediction`` is text
    (or tokens) that the answer may repeat: where it does, it comes sooner (docs/speculation.md). ``receipt`` records
    what the method ``receipt`` of stream and completion needs.
    """

    max_tokens: int | None
    sampling: SamplingParams | None
    stop: Sequence[str]
    special: bool | Container[int]
    overflow: Overflow
    keep: int
    timeout: float | None
    adapter: AdapterChoice
    prediction: str | bytes | Sequence[int] | None
    receipt: bool


@dataclass(frozen=True)
class Usage:
    """Counts of tokens, and seconds since the request was made.

    ``cached_tokens`` of the prompt were in the cache already; ``dropped_tokens`` were left out of the context, as
    ``overflow`` asked for; ``drafted_tokens`` were guessed, and ``accepted_tokens`` of these came
    (docs/speculation.md); ``disk_tokens`` of the cached ones had come from the disk (docs/disk-cache.md).
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prompt_seconds: float
    completion_seconds: float
    dropped_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    disk_tokens: int = 0

    @property
    def seconds(self) -> float:
        return self.prompt_seconds + self.completion_seconds


@dataclass(frozen=True)
class Completion(Said):
    """A whole answer, printed as its text; ``tokens`` without an end token, ``seed`` the one that was used, ``events``
    as they came, ``stop`` the stop string that ended it (None: something else did)."""

    text: str
    tokens: tuple[int, ...] = field(repr=False)
    finish_reason: FinishReason
    usage: Usage
    seed: int
    events: tuple[Event, ...] = field(default=(), repr=False)
    stop: str | None = None
    recorded: Callable[[], Receipt] | None = field(default=None, repr=False, compare=False)

    def receipt(self) -> Receipt:
        """What the answer was made of, for others to verify (docs/receipts.md); hashes the model file the first time.

        Raises ``ReceiptError`` for an answer that was asked for without ``receipt=True``, or whose context was shifted;
        ``GGUFError`` where somebody has written to the model's file; ``ClosedError`` once the model is closed.
        """
        if self.recorded is None:
            raise ReceiptError(_UNRECORDED)
        return self.recorded()


class Stream(Iterator[Event], AsyncIterator[Event]):
    """The events of an answer, for ``for`` or ``async for``; the last one has the finish reason.

    The model runs a few tokens ahead of who reads the events. ``cancel`` from any thread ends the answer with the
    finish reason "cancelled", and so do the timeout and the end of the stream's life.
    """

    def __init__(
        self, scheduler: Scheduler, request: Generation, *, progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        self._scheduler = scheduler
        self._request = request
        self._progress = progress
        self._deadline = None if timeout is None else time.monotonic() + real("timeout", timeout, 0.0)
        self._ready: deque[Item] = deque()
        self._seen = self._chosen = 0
        self._dropped = request.dropped
        self._ended = False

    def __iter__(self) -> Stream:
        return self

    def __aiter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        """Raises what went wrong with the answer; ``KeyboardInterrupt`` ends it."""
        if self._ended:
            raise StopIteration
        try:
            while True:
                event = self._event(self._wait())
                if event is not None:
                    return event
        except BaseException:
            self.cancel()
            raise

    async def __anext__(self) -> Event:
        """Does what ``__next__`` does; a cancelled task ends the answer."""
        if self._ended:
            raise StopAsyncIteration
        try:
            while True:
                event = self._event(await self._await())
                if event is not None:
                    return event
        except BaseException:
            self.cancel()
            raise

    def __del__(self) -> None:
        try:  # noqa: SIM105, at the end of the process contextlib may be gone
            self._scheduler.abandon(self._request)
        except Exception:  # the stream is half made, or the process ends
            pass

    def cancel(self) -> None:
        """Ends the answer. What was there already still comes, then the last event."""
        if not self._request.done:
            self._scheduler.cancel(self._request)

    def result(self) -> Completion:
        """Waits for the rest of the answer: the whole of what has not been read from the stream yet."""
        self.gather()
        return self._completion(list(self))

    async def aresult(self) -> Completion:
        """``result`` for coroutines."""
        self.gather()
        return self._completion([event async for event in self])

    @staticmethod
    def begin(*streams: Stream) -> None:
        """Lets the model make these answers. Raises ``ClosedError``."""
        try:
            if streams:
                streams[0]._scheduler.submit(*(stream._request for stream in streams))
        except BaseException:  # this is Ctrl-C, once they may have begun
            for stream in streams:
                stream.cancel()
            raise

    def gather(self) -> None:
        """Says that the answer is wanted as a whole: the model waits for no reader, and the events come at the end."""
        self._request.gather = True

    @property
    def ended(self) -> bool:
        """Whether its last event has been read."""
        return self._ended

    @property
    def kept(self) -> int:
        """Tokens of it that were in the cache when the model finished with it."""
        return max(self._request.kept, self._request.read)

    @property
    def held(self) -> str:
        """Text that is held back: what may begin a stop string, and U+FFFD for a character that is not complete."""
        return self._request.answer.held

    @property
    def usage(self) -> Usage:
        """What has been used so far."""
        request = self._request
        return Usage(
            request.prompt_tokens, request.cached or 0, request.made, *request.seconds, request.dropped,
            request.account.drafted, request.account.accepted, request.disk_tokens,
        )  # fmt: skip

    @property
    def seed(self) -> int:
        """The seed in use."""
        return self._request.answer.sampler.seed

    @property
    def why(self) -> str:
        """Why so much of the prompt, and no more, came from the cache."""
        return self._request.why

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer as far as events have been read, without what was dropped."""
        with self._scheduler.lock:
            unseen = self._request.made - self._seen
            return self._request.ids[: len(self._request.ids) - unseen]

    def receipt(self) -> Receipt:
        """``Completion.receipt`` of what has been read so far."""
        if self.recorded is None:
            raise ReceiptError(_UNRECORDED)
        return self.recorded()

    @property
    def recorded(self) -> Callable[[], Receipt] | None:
        """What makes the receipt of what has been read so far; None where the answer is not recorded."""
        recording = self._request.answer.recording
        shifted = self._request.dropped > self._dropped
        adapters = self._request.mark
        return (
            None if recording is None else partial(_shifted if shifted else recording.receipt, self._chosen, adapters)
        )

    def _completion(self, events: list[Event]) -> Completion:
        ends = self._request.answer.end_ids
        tokens = tuple(e.token for e in events if e.token is not None and e.token not in ends)
        reason = events[-1].finish_reason if events else None
        if reason is None:
            raise ValueError("the stream has been read to its end already; there is nothing to wait for")
        text, stop = "".join(e.text for e in events), events[-1].stop
        return Completion(text, tokens, reason, self.usage, self.seed, tuple(events), stop, self.recorded)

    def _event(self, item: Item) -> Event | None:
        if isinstance(item, tuple):
            if self._progress is not None:
                self._progress(*item)
            return None
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._ended = item.finish_reason is not None
        self._chosen += item.token is not None
        self._seen += item.token is not None and item.token not in self._request.answer.end_ids
        return item

    def _left(self) -> float | None:
        """Seconds until the deadline; once it has come, the answer is cancelled."""
        self._scheduler.check_open()
        if self._deadline is None or self._request.done:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.cancel()
        return min(max(left, 0.0), LONGEST)

    def _take(self, items: list[Item]) -> Item:
        self._ready.extend(items)
        return self._ready.popleft()

    def _wait(self) -> Item:
        while True:
            left = self._left()
            if (item := self._at_hand()) is not None:
                return item
            self._scheduler.read_on()
            with suppress(Empty):
                return self._take(self._request.queue.get(timeout=at_once(left)))

    async def _await(self) -> Item:
        import asyncio

        loop, request = asyncio.get_running_loop(), self._request
        while True:
            left = self._left()
            if (item := self._at_hand()) is not None:
                return item
            # A future alone, for each token has its own; and not asyncio.wait_for: before Python 3.12 it may take no
            # notice of a task that is cancelled.
            woken: asyncio.Future[None] = loop.create_future()
            request.notify = partial(_wake, loop, woken)
            timer = None if left is None else loop.call_later(left, _set, woken)
            try:
                if (item := self._at_hand()) is not None:  # it came before there was somebody to notify
                    return item
                self._scheduler.read_on()
                await woken
            finally:
                request.notify = None
                if timer is not None:
                    timer.cancel()

    def _at_hand(self) -> Item | None:
        """The next item, where it is there."""
        if self._ready:
            return self._ready.popleft()
        if not self._request.queue.empty():  # an exception costs more than the question
            with suppress(Empty):  # another reader has taken it
                return self._take(self._request.queue.get_nowait())
        return None


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
        loop.call_soon_threadsafe(_set, woken)


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _shifted(*_: object) -> Receipt:
    raise ReceiptError(
        "the context was shifted while the answer grew, so that its tokens do not follow one prompt; raise n_ctx, or "
        'leave overflow "shift" out'
    )
