"""The scheduler's half of an answer: the request that goes on with the tokens that it samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from llamaq.serving.answer import Answer, Event
from llamaq.serving.request import F32, Capture, Request

__all__ = ["Generation", "Item"]

Item: TypeAlias = Event | tuple[int, int] | BaseException
"""What a reader gets; a tuple is progress."""

_AHEAD = 8  # events that may wait for whoever reads them


class Generation(Request):
    """A request that goes on with what it samples. Its events lie in ``queue``, errors among them; with ``gather`` they
    come there all together at the end, which spares waking who waits for each."""

    def __init__(
        self, answer: Answer, ids: list[int], n_ctx: int, *, shift: bool = False, keep: int = 0, dropped: int = 0,
        progress: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(list(ids), len(ids) - 1)
        self._n_ctx = n_ctx
        self.answer = answer
        self.made = 0
        """Tokens of the answer that have joined ``ids``."""
        self.queue: SimpleQueue[list[Item]] = SimpleQueue()
        self.notify: Callable[[], None] | None = None
        self.gather = False
        self._gathered: list[Item] = []
        self._items: list[Item] = []  # ``work`` made these
        self._held = ""  # text that was held back at the last ``settle``
        self.dropped = dropped
        self._shift, self._keep = shift, keep
        self._progress = progress
        self._began = time.perf_counter()
        self._prompt_at = self._latest = 0.0

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self._items = [(read, len(self.ids))] if self._progress and not self.made else []
        if len(logits):
            self._latest = time.perf_counter()
            self._prompt_at = self._prompt_at or self._latest
            self._items += self.answer.take(logits[-1], None if self._shift else self._n_ctx - len(self.ids))
            self._latest = time.perf_counter()

    def settle(self) -> None:
        if not self._items:
            return
        new = self.answer.tokens[self.made :]
        self.ids += new
        self.made += len(new)
        self.first_wanted = len(self.ids) - 1
        self._held = self.answer.held
        last = self._items[-1]
        self.done = isinstance(last, Event) and last.finish_reason is not None
        self._put(self._items)

    def on_end(self, error: BaseException | None) -> None:
        self._put([self.answer.end("cancelled", held=self._held) if error is None else error])

    def shift(self) -> None:
        """Drops the older half of what follows the first ``keep`` tokens."""
        count = (len(self.ids) - self._keep) // 2
        del self.ids[self._keep : self._keep + count]
        self.dropped += count
        self.first_wanted = len(self.ids) - 1

    @property
    def paused(self) -> bool:
        return not self.gather and self.made > 0 and self.queue.qsize() >= _AHEAD

    @property
    def runs_foreign_code(self) -> bool:
        return bool(self.answer.sampler.params.logit_processors)

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds from the beginning to the first logits, and from there to the latest token."""
        read = self._prompt_at or time.perf_counter()
        return read - self._began, max(0.0, self._latest - read)

    def _put(self, items: Sequence[Item]) -> None:
        self._gathered += items
        if self.gather and not self.done:
            return
        self.queue.put(self._gathered)
        self._gathered = []
        if self.notify is not None:
            self.notify()
