"""Connections over which no whole request comes: they are closed after a while, so that they cannot take all places."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["patient_protocol"]

_BASE: Any = AutoHTTPProtocol


def patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, with httptools where that is installed, which closes a connection whose next request's head
    takes longer than ``seconds``. Uvicorn itself only limits how long a connection may rest between two requests."""

    class PatientProtocol(_BASE):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self._forget()

        def _look(self) -> None:
            """Sets the timer where bytes have come that are no whole head, or none yet; more of them do not move it."""
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering or self.timeout_keep_alive_task is not None:
                self._forget()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _forget(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    found: type[asyncio.Protocol] = PatientProtocol
    return found
