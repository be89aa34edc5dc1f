"""Requests that read a text and keep what the model makes of it: logits, log-probabilities, captured values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.errors import CancelledError, not_numbers
from llamaq.sampling.logprobs import LogProbabilities
from llamaq.serving.adaptation import Adaptation
from llamaq.serving.interrupt import at_once
from llamaq.serving.request import F32, Capture, Request
from llamaq.serving.scheduler import Scheduler

if TYPE_CHECKING:
    import asyncio

__all__ = ["CaptureRequest", "PromptRequest", "Score", "ScoreRequest", "async_wait", "wait"]

_LOGITS_BYTES = 2**26  # bytes of a step's logits that are looked at and forgotten


@dataclass(frozen=True, eq=False)
class Score:
    """Log-probabilities of a text: of each of ``tokens``, float64 (tokens,), and in ``sum``; ``top_logprobs`` has the
    most likely tokens in the place of each and theirs, where they were asked for."""

    tokens: tuple[int, ...]
    logprobs: NDArray[np.float64]
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()

    @property
    def sum(self) -> float:
        return math.fsum(self.logprobs)


class PromptRequest(Request):
    """Reads ``ids`` once. ``future`` gets the logits of token number ``first_wanted`` and all after it; a subclass
    keeps other things."""

    def __init__(
        self, ids: list[int], first_wanted: int, *, share: bool = False, adaptation: Adaptation | None = None
    ) -> None:
        super().__init__(ids, first_wanted, share=share)
        self.adaptation = adaptation
        self.future: Future[Any] = Future()
        self._parts: list[NDArray[Any]] = []
        self._result: Any = None

    def begin(self) -> None:
        self._parts = []

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        if len(logits) and not np.isfinite(logits.max(axis=1)).all():  # the sampler asks the same
            raise not_numbers("logits")
        self.collect(read, logits, captured)
        if read == len(self.ids):
            self._result = self.finish()

    def settle(self) -> None:
        if self._result is not None:
            self.done = True
            self.future.set_result(self._result)

    def collect(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        """Keeps part of what a step gave; as ``work``."""
        self._parts.append(logits)

    def finish(self) -> Any:
        """The whole, for the future."""
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)

    def on_end(self, error: BaseException | None) -> None:
        self.future.set_exception(error or CancelledError("the request was cancelled"))


class ScoreRequest(PromptRequest):
    """Log-probabilities of the ids from number ``start`` on, each after those before it, and of the ``top`` most likely
    in their places: gives a ``Score``."""

    def __init__(self, ids: list[int], start: int, vocabulary: int, top: int = 0) -> None:
        self.text = ids[start:]
        self._likely = LogProbabilities(top) if top else None
        self._top: list[tuple[tuple[int, float], ...]] = []
        super().__init__(ids[:-1] if len(ids) > 1 else ids, start - 1, share=True)
        self.max_rows = max(1, _LOGITS_BYTES // (4 * vocabulary))

    def begin(self) -> None:
        super().begin()
        self._top = []

    def collect(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        start = read - len(logits) - self.first_wanted
        pairs = [*zip(logits, self.text[start:], strict=False)]
        # A token that stands for a picture has no logit: no model says it.
        found = [float(row[id]) - _core.log_sum_exp(row) if id < len(row) else -math.inf for row, id in pairs]
        self._parts.append(np.array(found, np.float64))
        if self._likely is not None:
            for row, _ in pairs:
                self._likely.load(row)
                self._top.append(tuple(self._likely.top()))

    def finish(self) -> Score:
        return Score(tuple(self.text), np.concatenate(self._parts), tuple(self._top))


class CaptureRequest(PromptRequest):
    """What captures see, for all ids: a list of float32 (ids, columns) in the order of ``captures``."""

    def __init__(self, ids: list[int], captures: Sequence[Capture], *, logits: bool = False) -> None:
        super().__init__(ids, 0 if logits else len(ids))
        self.captures = tuple(captures)
        self._seen: list[list[F32]] = []

    def begin(self) -> None:
        super().begin()
        self._seen = [[] for _ in self.captures]

    def collect(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        super().collect(read, logits, captured)
        for seen, capture in zip(self._seen, self.captures, strict=True):
            seen.append(captured[capture])

    def finish(self) -> list[F32]:
        return [super().finish(), *(seen[0] if len(seen) == 1 else np.concatenate(seen) for seen in self._seen)]


def wait(scheduler: Scheduler, requests: Sequence[PromptRequest]) -> list[Any]:
    """Runs requests and gives their results; whatever ends the waiting early, Ctrl-C above all, ends them too."""
    try:
        scheduler.submit(*requests)
        for request in requests:
            while not request.future.done():
                with suppress(TimeoutError):
                    request.future.exception(at_once(None))
        return [request.future.result() for request in requests]
    except BaseException:
        _cancel(scheduler, requests)
        raise


async def async_wait(scheduler: Scheduler, requests: Sequence[PromptRequest]) -> list[Any]:
    """``wait`` for coroutines; a cancelled task ends the requests."""
    import asyncio

    try:
        scheduler.submit(*requests)
        futures = [asyncio.wrap_future(request.future) for request in requests]
        for future in futures:
            future.add_done_callback(_seen)
        # It is shielded, for the scheduler alone settles the futures.
        return [await asyncio.shield(future) for future in futures]
    except BaseException:
        _cancel(scheduler, requests)
        raise


def _seen(future: asyncio.Future[Any]) -> None:
    """Looks at an error that nobody may wait for any more, so that asyncio does not print it."""
    if not future.cancelled():
        future.exception()


def _cancel(scheduler: Scheduler, requests: Sequence[PromptRequest]) -> None:
    for request in requests:
        scheduler.cancel(request)
