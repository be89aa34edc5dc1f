"""What all routes share: the models, the settings, who is admitted, and what runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llamaq.server.admission import Admission
from llamaq.server.body import Bodies
from llamaq.server.metrics import Metrics, no_metrics
from llamaq.server.models import Models
from llamaq.server.settings import Settings

if TYPE_CHECKING:
    from llamaq.serving.stream import Stream

__all__ = ["Service"]


class Service:
    """The state of one server. One event loop uses it."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self.models = models
        self.settings = settings
        self.admission = Admission(settings.parallel, settings.max_queue, settings.queue_seconds, settings.key_requests)
        self.bodies = Bodies(settings)
        self.metrics = Metrics(models, self.admission) if settings.metrics else no_metrics
        self._running: set[Stream] = set()

    @property
    def streams(self) -> list[Stream]:
        """Answers that are being made."""
        return list(self._running)

    @contextmanager
    def running(self, streams: Sequence[Stream]) -> Iterator[None]:
        """While these answers are made; whatever ends that early ends them."""
        self._running.update(streams)
        try:
            yield
        finally:
            for stream in streams:
                stream.cancel()
            self._running.difference_update(streams)
            self.metrics.answered(streams)

    async def drain(self) -> None:
        """Admits nobody any more, and ends what still runs after ``drain_seconds``."""
        self._close()
        deadline = time.monotonic() + self.settings.drain_seconds
        while self.admission.tickets and time.monotonic() < deadline:
            await asyncio.sleep(min(0.05, self.settings.drain_seconds))
        self.cancel()

    def cancel(self) -> None:
        """Ends what runs; whoever reads is told that the server shuts down."""
        self._close()
        for stream in list(self._running):
            stream.cancel()

    def _close(self) -> None:
        self.admission.close()
        self.models.end()
