"""The server's application as a deployment of Ray Serve."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from llamaq.boundary.arguments import instance
from llamaq.distributed.ray.cluster import cpus_of_nodes
from llamaq.distributed.relay import Door, Gone, relayed
from llamaq.distributed.spread import alone_on_machine, whole_load, whole_path

__all__ = ["openai_app"]

_PARALLEL = 4
"""Answers that a replica makes at once."""
_MOST_OF_AUTO = 100
"""Replicas that Ray Serve makes at most where ``num_replicas`` is "auto"."""


class PrefixRouter(RequestRouter):
    """Sends requests that begin alike to the same replica; where that is full, to the next in an order of their own."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        key = str(pending_request.args[0]) if pending_request is not None and pending_request.args else ""

        def weight(replica: RunningReplica) -> str:
            return hashlib.sha256(f"{key}/{replica.replica_id.unique_id}".encode()).hexdigest()

        return [[replica] for replica in sorted(candidate_replicas, key=weight)]


class _Replica:
    """A model behind the server's application, one of at most so many ``replicas``."""

    def __init__(
        self, name: str, path: str | os.PathLike[str], load: Mapping[str, Any], settings: Mapping[str, Any],
        threads: int, replicas: int,
    ) -> None:  # fmt: skip
        from llamaq.llm.llm import LLM
        from llamaq.server import Settings, app

        pack = alone_on_machine(replicas, threads, cpus_of_nodes())  # else the machine's replicas share the mapping
        self._llm = LLM.load(path, **{"threads": threads, "pack": pack, **load})
        self._app = app(self._llm, Settings(**{"names": (name,), "hosts": ("*",), **settings}))

    async def answer(self, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        async for message in relayed(self._app, scope, body):
            yield message

    def __del__(self) -> None:
        if llm := self.__dict__.get("_llm"):
            llm.close()


def openai_app(models: Mapping[str, Mapping[str, Any]]) -> Any:
    """The server's protocols as an application for ``serve.run``: ``openai_app({"small": {"path": "model.gguf"}})``.

    For each model, by the name that clients call it: ``path`` (the same on every machine), ``load`` of ``LLM.load``,
    ``threads`` that a replica gets (1), ``parallel`` answers that it makes at once (4), ``settings`` of
    ``llamaq.server.Settings``, and ``num_replicas`` or ``autoscaling_config`` of Ray Serve. Requests that begin alike
    go to the same replica, whose cache has their beginning, while it has room; answers are the same from any. Raises
    ``TypeError``, ``ValueError``.
    """
    instance("models", models, Mapping)  # type: ignore[type-abstract]
    if not models:
        raise ValueError("models must have one model at least")
    deployments = {name: _deployment(name, dict(model)) for name, model in models.items()}
    names = list(deployments)

    def door() -> Any:
        app_name = serve.get_replica_context().app_name
        by_name = {name: serve.get_deployment_handle(_called(name), app_name=app_name) for name in names}

        async def ask(name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
            answer = by_name[name].answer.options(stream=True).remote(key, scope, body)
            try:
                async for message in answer:
                    yield message
            except (ActorUnavailableError, RayActorError) as error:
                raise Gone(f"a replica of {name} died") from error
            finally:
                answer.cancel()

        return Door(names, ask)

    entrance = serve.deployment(  # it claims no CPU, so that a machine's may all be a model's
        serve.ingress(door)(), name="llamaq", max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    return entrance.bind(*deployments.values())


def _called(name: str) -> str:
    """The name of a model's deployment."""
    return f"model {name}"


def _deployment(name: str, model: dict[str, Any]) -> Any:
    threads, parallel = model.pop("threads", 1), model.pop("parallel", _PARALLEL)
    try:
        path = whole_path(model.pop("path"))
    except KeyError:
        raise ValueError(f"models[{name!r}] needs the path of a GGUF file") from None
    load = whole_load(model.pop("load", {}))
    settings = {"parallel": parallel, **model.pop("settings", {})}
    scaling = {key: model.pop(key) for key in ("num_replicas", "autoscaling_config") if key in model}
    if model:
        raise ValueError(f"models[{name!r}] has {sorted(model)[0]!r}, which has no meaning there")
    deployment = serve.deployment(
        _Replica, name=_called(name), ray_actor_options={"num_cpus": threads}, max_ongoing_requests=2 * parallel,
        request_router_config=RequestRouterConfig(request_router_class=PrefixRouter), **scaling,
    )  # fmt: skip
    return deployment.bind(name, path, load, settings, threads, _most_replicas(**scaling))


def _most_replicas(num_replicas: int | str | None = None, autoscaling_config: Any = None) -> int:
    """Replicas that a model may come to have."""
    unsaid = _MOST_OF_AUTO if num_replicas == "auto" else num_replicas or 1
    return int(dict(autoscaling_config or {}).get("max_replicas", unsaid))
