"""The models of a server: loaded when they are asked for, unloaded when nobody uses them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from llamaq.engine.loading import needed_memory
from llamaq.engine.memory import available_memory
from llamaq.errors import InsufficientMemoryError, LlamaqError
from llamaq.gguf import GGUFFile
from llamaq.server.catalogue import Catalogue, Source
from llamaq.server.connection import in_time
from llamaq.server.errors import Refusal, refusal_of, shutting_down
from llamaq.server.served import GONE, Entry, Served, signature
from llamaq.server.settings import Settings
from llamaq.serving.adaptation import ASKED

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["Models"]

logger = logging.getLogger("llamaq.server")

_NO_RETRY = {"x-should-retry": "false"}


class _Ended(BaseException):
    """A load that nobody waits for any more."""


class Models:
    """Loads one model at a time, in a thread; whoever asks for it waits. A model that nobody uses makes room for others
    where there are too many or too little memory, the longest unused first, and goes when its time is over. One event
    loop uses it."""

    def __init__(self, sources: Source | Sequence[Source], settings: Settings) -> None:
        """Raises ``ValueError``."""
        self._catalogue = Catalogue(sources, settings.names, hub=settings.allow_pull)
        self._settings = settings
        self._lock = asyncio.Lock()  # whoever loads holds it
        self._left = asyncio.Event()  # set when a model has no user any more
        self._room: asyncio.Future[None] | None = None  # a load waits until a model that is in use is free
        self._closing: set[asyncio.Future[None]] = set()
        self._budget = available_memory()
        self._closed = False
        self.first: asyncio.Future[Refusal | None] | None = None
        """The load of the only model, which begins with the server; its result tells why it failed."""
        self.starting = False
        """Whether the only model is still being loaded, for the first time."""
        self.first_is_told = False
        """Whether somebody tells why ``first`` failed, so that the log need not."""

    @property
    def loaded(self) -> Sequence[Served]:
        """Those that are in memory."""
        return [entry.served for entry in self._catalogue.known if entry.served is not None]

    def listed(self) -> list[Entry]:
        """All models, in memory or not."""
        return self._catalogue.entries()

    @property
    def only(self) -> Entry | None:
        """The model that is loaded with the server: the one that was given, where no other was."""
        return self._catalogue.only

    def find(self, name: str | None) -> Entry:
        """The model of this name, loaded or not; the only one where none is given. Raises ``Refusal``."""
        return self._catalogue.find(name)

    def means_the_only(self, name: str | None) -> bool:
        """Whether this is no model's name, but there is one model alone, which it must mean: many clients send a fixed
        name. Not so with ``strict``, and where more models than that can be asked for."""
        if not name or self.only is None or self._settings.strict or self._settings.allow_pull:
            return False
        try:
            self.find(name)
        except Refusal:
            return True
        return False

    @asynccontextmanager
    async def use(self, name: str | None, keep_alive: float | None = None) -> AsyncIterator[Served]:
        """The model of this name, loaded, which stays while it is used, and for ``keep_alive`` seconds afterwards (0:
        it goes at once; infinity: it stays; None: as the settings say). Raises ``Refusal``."""
        entry = self.find(name)
        while entry.served is not None and self._room is not None:  # who came first has waited for long
            await asyncio.shield(self._room)
        entry.users += 1
        self._keep(entry, math.inf)
        asked = None
        try:
            served = await self._ready(entry)
            if name and (adapter := entry.adapter_of(name)):
                served = served.through(adapter, name)
                asked = ASKED.set(served.adapter)
            yield served
        finally:
            if asked is not None:
                ASKED.reset(asked)
            entry.users -= 1
            entry.used = time.monotonic()
            if not entry.users:
                self._left.set()
                self._keep(entry, self._settings.idle_seconds if keep_alive is None else keep_alive)

    async def load(self, name: str | None, keep_alive: float | None = None) -> Entry:
        """Loads a model, if it is not there already, and says that somebody has used it. Raises ``Refusal``."""
        async with self.use(name, keep_alive):
            return self.find(name)

    async def unload(self, name: str | None) -> Entry:
        """Unloads a model: at once, or when its last user has left. Raises ``Refusal``."""
        entry = self.find(name)
        if entry.stays:
            raise Refusal(400, f"{entry.name} was loaded by the program that serves it, and stays", param="model")
        if entry.served is not None and not entry.users:
            await asyncio.shield(self._unload(entry))
        elif entry.served is not None:
            entry.expires = time.time()
        return entry

    @asynccontextmanager
    async def header(self, name: str | None) -> AsyncIterator[GGUFFile]:
        """The file of a model, for its metadata and what its tensors are; it need not be loaded. Raises ``Refusal``."""
        entry = self.find(name)
        if entry.served is not None:
            yield entry.served.llm.model.parts.file
            return
        try:
            file = await asyncio.to_thread(GGUFFile.open, entry.path)
        except Exception as error:
            raise _cannot(entry, error) from error
        with file:
            yield file

    def start(self) -> None:
        """Begins to load the only model. Where there are several, they wait until they are asked for."""
        entry = self.only
        if entry is not None and entry.served is None:
            self.starting = True
            self.first = self._begin(entry)
            self.first.add_done_callback(lambda _: setattr(self, "starting", False))

    def end(self) -> None:
        """Loads nothing any more; whoever waits for that is told."""
        self._closed = True
        for entry in self._catalogue.known:
            if entry.loading is not None:
                entry.loading.cancel()

    async def close(self) -> None:
        """Unloads all."""
        self.end()
        for entry in self._catalogue.known:
            with suppress(asyncio.CancelledError):
                if entry.loading is not None:
                    await entry.loading
            if entry.served is not None and not entry.stays:
                self._unload(entry)
        await asyncio.gather(*self._closing)

    async def _ready(self, entry: Entry) -> Served:
        if entry.served is not None and self._is_old(entry):
            self._unload(entry)
        if entry.served is None:
            await self._loading(entry)
        assert entry.served is not None
        return entry.served

    async def _loading(self, entry: Entry) -> None:
        if self._closed:
            raise shutting_down()
        loading = entry.loading or self._begin(entry)
        await asyncio.wait({loading})  # it goes on where whoever waits does not
        refusal = shutting_down() if loading.cancelled() else loading.result()
        if refusal is not None:
            raise refusal

    def _is_old(self, entry: Entry) -> bool:
        """Whether the file is another one by now, and nobody else uses the old one."""
        return not entry.stays and entry.users == 1 and signature(entry.path) not in (entry.signature, GONE)

    def _begin(self, entry: Entry) -> asyncio.Future[Refusal | None]:
        entry.progress = 0.0
        entry.loading = asyncio.ensure_future(self._load(entry))
        return entry.loading

    async def _load(self, entry: Entry) -> Refusal | None:
        began = time.monotonic()
        try:
            async with self._lock:
                await self._make_room(entry)
                llm = await self._read(entry)
        except Exception as error:
            refusal = _cannot(entry, error, log=not (self.starting and self.first_is_told))
            refusal.__cause__ = error
            return refusal
        finally:
            entry.loading = None
        entry.served, entry.since, entry.memory = Served(llm, entry.name), time.time(), llm.memory.total
        logger.info("%s is loaded, in %.1f s", entry.name, time.monotonic() - began)
        if not entry.users:
            self._keep(entry, self._settings.idle_seconds)
        return None

    async def _read(self, entry: Entry) -> LLM:
        """Loads the file in a thread, which ends early where the task is cancelled."""
        cancelled = False

        def progress(done: int, total: int) -> None:
            if cancelled:
                raise _Ended
            entry.progress = done / max(total, 1)
            if (own := self._settings.load.get("progress")) is not None:
                own(done, total)

        def read() -> LLM:
            from llamaq.llm.llm import LLM

            entry.signature = signature(entry.path)
            llm = LLM.load(entry.source, **{**self._settings.load, "progress": progress})
            try:
                if self._settings.template is not None:
                    from llamaq.chat import choose_template

                    choose_template(llm.metadata, self._settings.template)
                if cancelled:
                    raise _Ended
            except BaseException:
                llm.close()
                raise
            return llm

        work = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled = True
            with suppress(_Ended, Exception):
                (await work).close()
            raise

    async def _make_room(self, entry: Entry) -> None:
        """Unloads what nobody uses until the model fits, and waits for users of others where that is not enough.
        Raises ``Refusal`` where that takes too long."""
        load = {name: value for name, value in self._settings.load.items() if name != "progress"}
        need = await asyncio.to_thread(_needed, entry, load)
        until = time.monotonic() + self._settings.queue_seconds
        try:
            while True:
                await asyncio.gather(*self._closing)
                others = [each for each in self._catalogue.known if each.served is not None and not each.stays]
                if len(others) < self._settings.models_max and self._fits(need):
                    return
                idle = [each for each in others if not each.users]
                if idle:
                    self._unload(min(idle, key=lambda each: each.used))
                elif others:
                    await self._somebody_leaves(until)
                else:
                    return  # loading says whether the memory is enough
        finally:
            if self._room is not None:
                self._room.set_result(None)
                self._room = None

    def _fits(self, need: int) -> bool:
        """Caches that are not filled yet count as memory that is taken."""
        available = available_memory()
        if available is None or self._budget is None:
            return True
        taken = sum(entry.memory for entry in self._catalogue.known if entry.served is not None and not entry.stays)
        return need <= min(available, self._budget - taken)

    async def _somebody_leaves(self, until: float) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        self._left.clear()
        message = "all models that are in memory are in use, and there is no room for another"
        late = Refusal(503, message, code="overloaded", retry_after=30)
        async with in_time(until - time.monotonic(), late):
            await self._left.wait()

    def _keep(self, entry: Entry, seconds: float) -> None:
        """Sets the time of a model's end anew."""
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = None
        asked_to_go = entry.expires is not None and entry.expires <= time.time() and not entry.users
        seconds = 0.0 if asked_to_go else seconds
        entry.expires = None
        if entry.served is None or entry.stays or entry.users or seconds == math.inf:
            return
        if seconds <= 0:
            self._unload(entry)
            return
        entry.expires = time.time() + seconds
        entry.timer = asyncio.get_running_loop().call_later(seconds, self._keep, entry, 0.0)

    def _unload(self, entry: Entry) -> asyncio.Future[None]:
        """Takes a model from those that answer, and frees its memory in a thread."""
        served = entry.served
        assert served is not None
        entry.had_adapters = entry.adapters
        entry.served = entry.since = entry.expires = None
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        logger.info("%s is unloaded", entry.name)
        closing = asyncio.ensure_future(asyncio.to_thread(served.llm.close))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing


def _needed(entry: Entry, load: Mapping[str, Any]) -> int:
    """Bytes that a model will take. Raises what loading it does."""
    from llamaq.llm.named import projector_memory

    return needed_memory(entry.path, **load).total + projector_memory(entry.source, **load)


def _cannot(entry: Entry, error: Exception, *, log: bool = True) -> Refusal:
    """Why a model cannot be loaded, in words that do not tell where its file lies."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InsufficientMemoryError):
        return Refusal(503, f"{entry.name}: {error}", code="insufficient_memory", headers=_NO_RETRY, param="model")
    if signature(entry.path) == GONE:
        return Refusal(404, f"the file of {entry.name} is gone", code="model_not_found", param="model")
    if not isinstance(error, LlamaqError | OSError):
        return refusal_of(error)
    if log:
        logger.error("%s cannot be loaded: %s", entry.name, error)
    message = " ".join(str(error).replace(str(entry.path), entry.path.name).splitlines())
    return Refusal(500, f"{entry.name} cannot be loaded: {message}", headers=_NO_RETRY, param="model")
