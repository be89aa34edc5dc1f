"""Runs the application with uvicorn until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from llamaq.errors import LlamaqError

try:
    import uvicorn
except ImportError:
    raise LlamaqError("llamaq serve needs uvicorn: pip install 'llamaq[server]'") from None

from starlette.applications import Starlette

from llamaq.server.errors import Refusal
from llamaq.server.patience import patient_protocol
from llamaq.server.service import Service

__all__ = ["address_of", "check_certificate", "is_local", "listen", "serve"]

_GRACE = 5  # seconds that clients have to read why their answer ends
_HURRY = 1  # seconds of that after a second signal
_MOST_CONNECTIONS = 1024
_KEEP_ALIVE = 75  # seconds


def address_of(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The family and address of a name. Raises ``LlamaqError``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise LlamaqError(f"{host!r} is no address of this machine: {error}") from None
    return found[0][0], found[0][4]


def is_local(address: tuple[Any, ...]) -> bool:
    """Whether this machine alone reaches it."""
    return ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


_OTHER_PORT = (errno.EADDRINUSE, errno.EACCES)
"""What another port may not have: somebody who listens there, a number below 1024."""


def listen(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    """A socket there, whose connections send what they have at once, and find out when the other machine is gone
    without a word. Raises ``LlamaqError``."""
    try:
        found = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # of strerror, create_server makes more
        remedy = "; choose another port (0: any that is free)" if error.errno in _OTHER_PORT else ""
        raise LlamaqError(f"cannot listen on {address[0]} port {address[1]}: {why}{remedy}") from None
    # asyncio sets this only for sockets that were made with the protocol's number, as none of create_server's is; an
    # answer then lay 40 ms until its beginning was acknowledged.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return found


def check_certificate(certificate: str, key: str) -> None:
    """Raises ``LlamaqError`` where the files are not a certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise LlamaqError(f"{certificate} and {key} must be a certificate and its key, in PEM: {error}") from None


def serve(
    app: Starlette, listening: socket.socket, *, ready: Callable[[], None], certificate: str | None = None,
    key: str | None = None,
) -> int:  # fmt: skip
    """Serves until SIGINT or SIGTERM, then lets what runs end; a second one ends it at once. The signal's number.

    ``ready`` is called when it can answer. Raises what keeps the only model from being loaded.
    """
    service: Service = app.state.service
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="on", proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE, limit_concurrency=_MOST_CONNECTIONS, ws="none",
        timeout_graceful_shutdown=round(service.settings.drain_seconds) + 2 * _GRACE, ssl_certfile=certificate,
        ssl_keyfile=key, http=patient_protocol(service.settings.body_seconds, service.settings.send_seconds),
    )  # fmt: skip
    server = _Server(config, service, ready)
    server.run(sockets=[listening])
    if server.failed is not None:
        raise server.failed
    return server.ended_by


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ended_by = 0
        self.failed: BaseException | None = None
        self._service = service
        self._service.models.first_is_told = True  # whoever gets ``failed`` tells it
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        if (first := self._service.models.first) is None:
            self._ready()
        else:
            first.add_done_callback(self._loaded)

    def _loaded(self, first: asyncio.Future[Refusal | None]) -> None:
        refusal = None if first.cancelled() else first.result()
        if refusal is not None:
            self.failed = refusal.__cause__ or refusal
            self.should_exit = True
        elif not self.should_exit:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signals are not raised again at the end: whoever called ``serve`` goes on."""
        self._loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._end, self._loop)
        self.should_exit = True
        self.ended_by = sig

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._service.drain())
            loop.call_later(self._service.settings.drain_seconds + _GRACE, self._break_off)
        else:
            self._service.hurry()
            loop.call_later(_HURRY, self._break_off)

    def _break_off(self) -> None:
        """Ends the connections of clients that read nothing any more, or whose request does not come."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
