"""Connections whose clients keep them for nothing: whose request does not come, or comes with a head without end; who
read nothing of what is left of an answer; who go where a further request hides it. They are ended, so that they take
neither all places nor all memory."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["patient_protocol"]

_BASE: Any = AutoHTTPProtocol
_LARGEST_HEAD = 1 << 16
"""Bytes of a request before its body, as h11 allows; httptools itself allows any."""


class _PatientProtocol(_BASE):  # type: ignore[misc]
    seconds: float
    reading: float
    _timer: asyncio.TimerHandle | None = None
    _came = 0  # bytes that are no whole head yet
    _ahead = 0  # bytes of further requests that came while one is answered
    _begun: Any = None  # the request that is answered, where httptools says so

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._came += len(data)
        self._look()
        self._go_on(len(data))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._forget()
        if (begun := self._begun) is not None and not begun.response_complete:
            begun.disconnected = True  # uvicorn tells the latest request alone, which waits for this one
            begun.message_event.set()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._ahead = 0
        self._look_at_rest(0)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, app)

    def _go_on(self, count: int) -> None:
        """Reads on where a further request has come, though uvicorn would not: it is the only way to see that the
        client goes."""
        answered = self._begun or self.cycle
        if answered is None or answered.more_body or answered.response_complete or not self.flow.read_paused:
            return
        self._ahead += count
        if self._ahead <= _LARGEST_HEAD:
            self.flow.resume_reading()

    def _look_at_rest(self, before: int) -> None:
        """Ends the connection where as much of an answer is left as was ``before``, and nothing more is written."""
        left = self.transport.get_write_buffer_size()
        if left and left == before and (self.flow.write_paused or self.transport.is_closing()):
            self.transport.abort()
        elif left:
            self.loop.call_later(self.reading, self._look_at_rest, left)

    def _look(self) -> None:
        """Sets the timer where bytes have come that are no whole head, or none yet; more of them do not move it."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.timeout_keep_alive_task is not None:
            self._forget()
            self._came = 0
        elif self._came > _LARGEST_HEAD:
            self.transport.abort()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient_protocol(seconds: float, reading: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, with httptools where that is installed, which ends a connection whose next request's head
    takes longer than ``seconds``, or is larger than any honest one, and one whose client takes nothing for ``reading``
    seconds of an answer that has been given as a whole. Uvicorn itself only limits how long a connection may rest
    between two requests."""
    found: type[asyncio.Protocol] = type(
        "PatientProtocol", (_PatientProtocol,), {"seconds": seconds, "reading": reading}
    )
    return found
