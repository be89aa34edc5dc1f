"""Requests that read a text and keep what the model makes of it: logits, probabilities, embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np

from llamaq.errors import CancelledError
from llamaq.scheduler import F32, Capture, Request, Scheduler

__all__ = ["Reading", "read_logits"]


class Reading(Request):
    """Reads ``ids`` once; a subclass keeps what it wants in ``collect``; ``future`` gets what it ``finish``es with."""

    def __init__(self, ids: list[int], first_wanted: int, *, share: bool = False) -> None:
        super().__init__(ids, first_wanted, share=share)
        self.future: Future[F32] = Future()
        self._parts: list[F32] = []

    def receive(self, first: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self.collect(first, logits, captured)
        if self.read == len(self.ids):
            self.done = True
            self.future.set_result(self.finish())

    def collect(self, first: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        """Keeps part of what a step gave; as ``receive``."""
        self._parts.append(logits)

    def finish(self) -> F32:
        """The whole."""
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)

    def end(self, error: BaseException | None) -> None:
        self.future.set_exception(error or CancelledError("the request was cancelled"))


def wait(scheduler: Scheduler, *requests: Reading) -> list[F32]:
    """Runs requests and gives their results; whatever ends the waiting early, Ctrl-C above all, ends them too."""
    scheduler.submit(*requests)
    try:
        return [request.future.result() for request in requests]
    except BaseException:
        for request in requests:
            scheduler.cancel(request)
        raise


def read_logits(scheduler: Scheduler, ids: list[int], first: int) -> F32:
    """Logits after each token from number ``first`` on, float32 (tokens - first, vocabulary); nothing is shared."""
    return wait(scheduler, Reading(ids, first))[0]
