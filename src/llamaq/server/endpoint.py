"""The way of a request that asks the model for something: read, admitted, prepared, run, answered."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llamaq.server.connection import PieceWriter, in_time, unless_gone
from llamaq.server.dialect import Dialect, json_response, long_json_response
from llamaq.server.errors import Gone, Refusal, refusal_of
from llamaq.server.served import Served
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Endpoint", "Job", "merged"]

T = TypeVar("T")

_OPENAI = Dialect()


class Job(ABC):
    """A request that has been read, and how its protocol answers it. Reading it raises ``Refusal``."""

    model: str | None = None
    """The name of the model that is asked for."""
    keep_alive: float | None = None
    """Seconds that the model stays afterwards; infinity: for ever; None: as the settings say."""
    answers = 1
    """How many answers the model makes for it; 0: it has no work for it."""
    streamed = False
    needs_model = True
    """Whether a model must be in memory for the answer."""
    gathered = True
    """Whether the model makes a whole answer without waiting for who reads it, which may end it early."""
    is_long = False
    """Whether the answer at once may have long lists."""
    asked_in = "messages"
    """The field at fault where the library does not name one."""

    given_up = False
    """Whether nobody waits for the answer any more."""

    served: Served
    """The model that answers; it is there from ``prepare`` on."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ignored: list[str] = []
        self.headers: dict[str, str] = {}

    async def without_model(self) -> Any:
        """The answer where no model need be in memory for it; None: one must be."""
        return None

    def prepare(self) -> Sequence[Stream]:
        """What takes long before the model begins, such as templates, tokens and structures; runs in a thread. Gives
        answers that have not begun."""
        raise NotImplementedError

    def go_on(self, done: int, total: int) -> None:
        """Gets how far pictures have been read, within ``prepare``, and ends that where nobody waits for it."""
        if self.given_up:
            raise Gone

    @abstractmethod
    async def whole(self) -> Any:
        """The answer at once, as JSON."""

    def frames(self) -> AsyncGenerator[str, None]:
        """The answer in pieces, as they are sent."""
        raise NotImplementedError

    def failed(self, dialect: Dialect, refusal: Refusal) -> str:
        """The last piece of an answer that fails after its status has been sent."""
        return dialect.failed(refusal)

    def tally(self) -> dict[str, int]:
        """The tokens that the log tells of: those ``in`` the prompt, ``cached`` ones of them, those that came ``out``;
        or ``counted``, where nothing was read."""
        return {}

    def named(self) -> dict[str, str]:
        """The headers, with the names of the fields that were ignored."""
        return {**self.headers, "x-llamaq-ignored": _header(self.ignored)} if self.ignored else self.headers


class Endpoint:
    """An ASGI application for one route; ``read`` makes a job of a body."""

    def __init__(
        self, service: Service, read: Callable[[Service, dict[str, Any]], Job], dialect: Dialect = _OPENAI
    ) -> None:
        self._service = service
        self._read = read
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = PieceWriter(send, self._service.settings, self._dialect)
        try:
            body = await self._service.bodies.read(Headers(scope=scope), receive, untyped=self._dialect.untyped_bodies)
            with self._service.admission.ticket(scope.get("llamaq.key")):
                response = await unless_gone(receive, self._in_time(scope, body, writer), lambda: writer.ended)
        except Gone:
            scope["llamaq.gone"] = True
            return
        except Exception as error:
            response = self._dialect.refused(refusal_of(error))
            if writer.begun:  # an answer cut short is left so: the ASGI server breaks the connection
                return
        if response is not None:
            await response(scope, receive, send)

    async def _in_time(self, scope: Scope, body: dict[str, Any], writer: PieceWriter) -> Response | None:
        until = asyncio.get_running_loop().time() + self._service.settings.answer_seconds
        async with in_time(self._service.settings.answer_seconds, _late(), lambda: writer.begun):
            return await self._answer(scope, body, writer, until)

    async def _answer(self, scope: Scope, body: dict[str, Any], writer: PieceWriter, until: float) -> Response | None:
        """The answer, or None where the writer has sent it."""
        job = self._read(self._service, body)
        if self._dialect.takes_any_name and self._service.models.means_the_only(job.model):
            job.ignored.append("model")
            job.model = None
        if (found := await job.without_model()) is not None:
            return json_response(found, headers=job.named())
        if not job.needs_model:
            return await self._run(job, (), writer, until)
        using = self._service.models.use(job.model, job.keep_alive)
        async with using as job.served, self._service.admission.places(job.answers):
            try:
                streams = await asyncio.to_thread(job.prepare)
            except asyncio.CancelledError:
                job.given_up = True  # the thread ends once it looks at this
                raise
            except Exception as error:
                raise refusal_of(error, param=job.asked_in, asked=True) from error
            with self._service.running(streams):
                try:
                    return await self._run(job, streams, writer, until)
                finally:
                    scope["llamaq.told"] = {"model": job.served.name, "tokens": job.tally()}

    async def _run(self, job: Job, streams: Sequence[Stream], writer: PieceWriter, until: float) -> Response | None:
        if job.gathered and not job.streamed:
            for stream in streams:
                stream.gather()
        Stream.begin(*streams)
        if not job.streamed:
            whole = await job.whole()
            if job.is_long:
                return await long_json_response(whole, job.named())
            return json_response(whole, headers=job.named())
        async with writer:
            await self._send(job, writer, until - asyncio.get_running_loop().time())
        return None

    async def _send(self, job: Job, writer: PieceWriter, seconds: float) -> None:
        await writer.begin(job.named())
        try:
            async with in_time(seconds, _late()), aclosing(job.frames()) as frames:
                async for frame in frames:
                    await writer.write(frame)
        except Gone:
            raise
        except Exception as error:  # the status is sent: the error must come as an event
            await writer.write(job.failed(self._dialect, refusal_of(error)))
        await writer.end()


async def merged(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T], None]:
    """The events of several answers with their numbers, as they come. None runs far ahead of who reads them."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    queue: asyncio.Queue[tuple[int, T | Exception | None]] = asyncio.Queue(8)

    async def pump(number: int, stream: AsyncIterator[T]) -> None:
        end: Exception | None = None
        try:
            async for event in stream:
                await queue.put((number, event))
        except Exception as error:
            end = error
        await queue.put((number, end))

    pumps = [asyncio.ensure_future(pump(*each)) for each in enumerate(streams)]
    try:
        left = len(streams)
        while left:
            number, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield number, item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _late() -> Refusal:
    message = "the answer took longer than this server allows"
    return Refusal(408, message, code="timeout", headers={"x-should-retry": "false"})


def _header(names: Sequence[str]) -> str:
    """Names as a header can have them."""
    text = ",".join(name[:40] for name in names[:20])
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
