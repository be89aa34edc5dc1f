"""Connections over which no whole request comes: they are closed after a while, or where its head does not end, so that
they can take neither all places nor all memory."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["patient_protocol"]

_BASE: Any = AutoHTTPProtocol
_LARGEST_HEAD = 1 << 16
"""Bytes of a request before its body, as h11 allows; httptools itself allows any."""


def patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, with httptools where that is installed, which closes a connection whose next request's head
    takes longer than ``seconds``, or is larger than any honest one. Uvicorn itself only limits how long a connection
    may rest between two requests."""

    class PatientProtocol(_BASE):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _came = 0  # bytes that are no whole head yet

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._came += len(data)
            self._look()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self._forget()

        def _look(self) -> None:
            """Sets the timer where bytes have come that are no whole head, or none yet; more of them do not move it."""
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering or self.timeout_keep_alive_task is not None:
                self._forget()
                self._came = 0
            elif self._came > _LARGEST_HEAD:
                self.transport.abort()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _forget(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    found: type[asyncio.Protocol] = PatientProtocol
    return found
