"""A file of requests answered by the machines of a cluster, for ``run_batch``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError

from llamaq.batch import Answering, BatchJob, Request
from llamaq.distributed.ray.cluster import check_born, connected, cpus_of_nodes
from llamaq.distributed.spread import load_for, spread, whole_path

__all__ = ["cluster_batch"]

_PAUSE = 0.5
"""Seconds before a request is asked anew of a cluster that has just lost somebody."""


class _Worker:
    """An actor with the model."""

    def __init__(self, job: BatchJob) -> None:
        self._stack = ExitStack()  # it holds the model for as long as the actor lives
        self._answerer = self._stack.enter_context(job.answerer())

    async def line(self, request: Request) -> str:
        return await self._answerer.line(request)


def cluster_batch(job: BatchJob, address: str = "auto", *, workers: int | None = None) -> Answering:
    """Who answers the requests of ``run_batch(job, ..., cluster_batch(job))``: ``workers`` actors of the Ray cluster
    (None: one on each machine), with ``job.parallel`` requests at once each. The model's file must have the same path
    everywhere. What a killed worker or machine had begun is asked of another; the output has the same bytes as that of
    one process. Raises ``LlamaqError`` where there is no cluster, or where it loses whoever is asked again and
    again."""

    def answering(requests: Iterator[Request], done: Callable[[Request, str], None]) -> None:
        with connected(address):
            cpus = cpus_of_nodes()
            load = load_for(job.load, workers or len(cpus), cpus)
            actor: Any = ray.remote(_Worker).options(
                num_cpus=load["threads"], max_restarts=-1, max_concurrency=job.parallel,
                scheduling_strategy="SPREAD",
            )  # fmt: skip
            own = replace(job, model=whole_path(job.model), load=load)
            actors = [actor.remote(own) for _ in range(workers or len(cpus))]
            try:
                spread(
                    requests, actors, job.parallel, ask=lambda actor, request: actor.line.remote(request),
                    wait=lambda refs: ray.wait(refs, num_returns=1)[0], take=_taken, done=done,
                )  # fmt: skip
            finally:
                for each in actors:
                    ray.kill(each)

    return answering


def _taken(ref: Any) -> str | None:
    """The line of the output; None where the actor or its machine died before."""
    try:
        line: str = ray.get(ref)
    except (ActorUnavailableError, RayActorError) as error:  # Ray starts it anew, here or on another machine
        check_born(error)
        time.sleep(_PAUSE)
        return None
    return line
