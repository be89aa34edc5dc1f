"""A stand-in for Ray: actors that are threads of this process, one machine of four CPUs, and calls that are noted.
It shows that llamaq asks Ray for the right things, and what it makes of the answers; Ray alone shows that they are
right."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

__all__ = ["StandIn"]


class _ActorError(Exception):
    actor_init_failed = False


class _UnavailableError(Exception):
    pass


class _LostError(Exception):
    pass


class _TimeoutError(Exception):
    pass


class _TaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Actor:
    """An object on a thread with a loop. ``die`` loses it; where it may restart, it is made anew. One that cannot be
    made fails with the first call."""

    def __init__(self, kind: type, args: Sequence[Any], options: dict[str, Any]) -> None:
        self._make: Callable[[], Any] = partial(kind, *args)
        self.options = options
        self._life = 0
        self._unborn: _ActorError | None = None
        try:
            self._object = self._make()
        except Exception as error:
            self._unborn = _ActorError(
                f"The actor died because of its creation task\n{type(error).__name__}: {error}\n"
            )
            self._unborn.actor_init_failed = True
        self._loop = asyncio.new_event_loop()
        self._running: set[Future[Any]] = set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self._call(name, args))

    def die(self, *, restarts: bool = True) -> None:
        for future in list(self._running):
            if not future.done():
                future.set_exception(_ActorError("the actor died"))
        self._life += 1
        self._object = self._make() if restarts else None

    def _call(self, name: str, args: Sequence[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._running.add(future)
        asyncio.run_coroutine_threadsafe(self._run(future, name, args), self._loop)
        return future

    async def _run(self, future: Future[Any], name: str, args: Sequence[Any]) -> None:
        found: Any
        try:
            own = [await asyncio.wrap_future(arg) if isinstance(arg, Future) else arg for arg in args]
            if self._unborn is not None:
                raise self._unborn
            if self._object is None:
                raise _ActorError("the actor is dead")
            found = getattr(self._object, name)(*own)
            found = await found if asyncio.iscoroutine(found) else found
        except Exception as error:
            own_error = error if isinstance(error, _ActorError | _TaskError) else _TaskError(error)
            self._running.discard(future)
            if not future.done():
                future.set_exception(own_error)
            return
        self._running.discard(future)
        if not future.done():
            future.set_result(found)


class StandIn:
    """The modules, by name, and what was asked of them."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.inits: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = [{"Alive": True, "Resources": {"CPU": 4.0}}]
        self.connected = False
        self.refuses = False
        self.modules = self._modules()

    def _modules(self) -> dict[str, ModuleType]:
        errors = {
            "RayActorError": _ActorError, "ActorUnavailableError": _UnavailableError, "ObjectLostError": _LostError,
            "RayTaskError": _TaskError, "GetTimeoutError": _TimeoutError,
        }  # fmt: skip
        exceptions = _module("ray.exceptions", errors)
        data = _module("ray.data", {"ActorPoolStrategy": lambda size: ("actors", size), "Dataset": object})
        config = _module("ray.serve.config", {"RequestRouterConfig": lambda **given: given})
        router = _module(
            "ray.serve.request_router", {"PendingRequest": object, "RequestRouter": object, "RunningReplica": object}
        )
        serve = _module(
            "ray.serve", {"deployment": _deployment, "ingress": lambda door: lambda: door, "config": config}
        )
        own = {
            "remote": self._remote, "get": _get, "wait": _wait, "kill": self._kill, "nodes": lambda: self.nodes,
            "init": self._init, "is_initialized": lambda: self.connected, "shutdown": self._shutdown,
            "exceptions": exceptions, "data": data, "serve": serve,
        }  # fmt: skip
        arrow: dict[str, Any] = {name: lambda *of, name=name: name for name in ("string", "int64", "float32", "list_")}
        return {
            "ray": _module("ray", own), "ray.exceptions": exceptions, "ray.data": data, "ray.serve": serve,
            "ray.serve.config": config, "ray.serve.request_router": router,
            "pyarrow": _module("pyarrow", {**arrow, "Table": object}),
        }  # fmt: skip

    def _remote(self, kind: type) -> Any:
        def options(**given: Any) -> Any:
            def remote(*args: Any) -> Actor:
                self.actors.append(Actor(kind, args, given))
                return self.actors[-1]

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=options)

    def _kill(self, actor: Actor) -> None:
        self.killed.append(actor)
        actor.die(restarts=False)

    def _init(self, **given: Any) -> None:
        if self.refuses:
            raise ConnectionError("nobody\nis there")
        self.inits.append(given)
        self.connected = True

    def _shutdown(self) -> None:
        self.connected = False


def _module(name: str, values: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(values)
    return module


def _get(future: Future[Any], timeout: float | None = None) -> Any:
    try:
        return future.result(timeout)
    except concurrent.futures.TimeoutError:
        raise _TimeoutError from None


def _wait(futures: list[Future[Any]], num_returns: int) -> tuple[list[Future[Any]], list[Future[Any]]]:
    done = wait(futures, return_when=FIRST_COMPLETED).done
    return list(done), [each for each in futures if each not in done]


def _deployment(what: Any, **given: Any) -> Any:
    return SimpleNamespace(bind=lambda *args: SimpleNamespace(what=what, given=given, args=args))
