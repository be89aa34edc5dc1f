"""Models on their way from the Hugging Face hub into its cache."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from llamaq.errors import DownloadError, GGUFError
from llamaq.gguf import GGUFFile
from llamaq.hub.address import Address
from llamaq.hub.cache import cache_folder
from llamaq.hub.download import fetch
from llamaq.server.errors import Refusal, shutting_down

__all__ = ["Downloads"]

_MOST = 4  # downloads at once
_RETRY = 60  # seconds
_LOOK = 0.1  # seconds


class _Ended(BaseException):
    """A download that nobody waits for any more."""


class _Download(threading.Thread):
    """A thread of its own, since it may wait for the network for long, for which neither others nor the end of the
    process should have to wait."""

    def __init__(self, address: Address) -> None:
        super().__init__(name=f"download {address}", daemon=True)
        self.watchers = 0
        self.bytes = (0, 0)
        """Those that have come, and all."""
        self.error: Exception | None = Refusal(503, "this download has been ended; ask again", retry_after=1)
        """Why the model is not there."""
        self._address = address

    def run(self) -> None:
        try:
            found = fetch(self._address, self._progress)
            GGUFFile.open(found.path).close()
            self.error = None
        except _Ended:
            pass
        except DownloadError as error:
            message = str(error).replace(str(cache_folder()), "the hub's cache")
            self.error = Refusal(502, " ".join(message.splitlines()))
        except GGUFError as error:
            self.error = Refusal(
                502, f"what was fetched is no model: {str(error).replace(str(found.path), found.name)}"
            )
        except Exception as error:
            self.error = error

    def _progress(self, done: int, total: int) -> None:
        if not self.watchers:
            raise _Ended
        self.bytes = (done, total)


class Downloads:
    """One of each model at a time, which all share who ask for it; it ends when the last of them is gone. One event
    loop uses it."""

    def __init__(self) -> None:
        self._running: dict[Address, _Download] = {}
        self._ended = False

    def end(self) -> None:
        """Ends all; whoever waits for them is told that the server shuts down."""
        self._ended = True

    async def fetch(self, address: Address) -> AsyncGenerator[tuple[int, int], None]:
        """Fetches a model; gives the bytes that have come and their total, when they change. Raises ``Refusal``."""
        with self._watched(address) as download:
            told = (0, 0)
            while download.is_alive():
                if self._ended:
                    raise shutting_down()
                if download.bytes != told:
                    told = download.bytes
                    yield told
                await asyncio.sleep(_LOOK)
        if download.error is not None:
            raise download.error
        yield download.bytes

    @contextmanager
    def _watched(self, address: Address) -> Iterator[_Download]:
        self._running = {key: each for key, each in self._running.items() if each.is_alive()}
        download = self._running.get(address)
        if download is None:
            if len(self._running) >= _MOST:
                raise Refusal(429, f"{_MOST} models are being fetched already", retry_after=_RETRY)
            download = self._running[address] = _Download(address)
        download.watchers += 1
        try:
            if download.ident is None:
                download.start()
            yield download
        finally:
            download.watchers -= 1
