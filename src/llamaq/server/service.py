"""What all routes share: the model, its names, the settings, who is admitted, and what runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llamaq import __version__
from llamaq.server.admission import Admission
from llamaq.server.body import Bodies
from llamaq.server.errors import Refusal
from llamaq.server.metrics import Metrics, no_metrics
from llamaq.server.settings import Settings

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM
    from llamaq.serving.stream import Stream

__all__ = ["Service", "dumps"]


class Service:
    """One model behind the routes. One event loop uses it."""

    def __init__(self, llm: LLM, settings: Settings) -> None:
        self.llm = llm
        self.settings = settings
        path = llm.model.parts.file.path
        self._any_name = "*" in settings.names
        self.names = tuple(name for name in settings.names if name != "*") or (path.name.removesuffix(".gguf"),)
        self._also = {*self.names, path.name, str(path)}
        self.created = int(time.time())
        self.fingerprint = f"llamaq-{__version__}-{llm.engine.numerics}"
        self.admission = Admission(settings.parallel, settings.max_queue, settings.queue_seconds)
        self.bodies = Bodies(settings)
        self.metrics = Metrics(self) if settings.metrics else no_metrics
        self._running: set[Stream] = set()

    @property
    def name(self) -> str:
        return self.names[0]

    def check_model(self, name: str | None) -> None:
        """Raises ``Refusal`` for the name of another model."""
        if name and not self._any_name and name not in self._also:
            message = f"there is no model {name!r:.100} here; there is {', '.join(self.names)}"
            raise Refusal(404, message, param="model", code="model_not_found")

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
        self.admission.close()
        deadline = time.monotonic() + self.settings.drain_seconds
        while self.admission.tickets and time.monotonic() < deadline:
            await asyncio.sleep(min(0.05, self.settings.drain_seconds))
        self.cancel()

    def cancel(self) -> None:
        """Ends what runs; whoever reads is told that the server shuts down."""
        self.admission.close()
        for stream in list(self._running):
            stream.cancel()


def dumps(value: Any) -> str:
    """JSON as it is sent: short, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
