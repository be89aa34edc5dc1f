"""A model whose layers lie on several machines of a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayTaskError

from llamaq.boundary.arguments import whole
from llamaq.distributed.ray.cluster import check_born, cpus_of_nodes
from llamaq.distributed.spread import threads_for, whole_path
from llamaq.distributed.staged import StagedModel, StageLost, open_lane
from llamaq.distributed.stages import Passed, Stage, StageJob, Work, even_cuts
from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.errors import LlamaqError

__all__ = ["staged"]

_LOST = (ActorUnavailableError, RayActorError, ObjectLostError)
_PAUSE = 0.5
_LONGEST = 600.0
"""Seconds that a stage may take to be there, or there again."""


class _StageActor:
    """An actor with some layers."""

    def __init__(self, job: StageJob) -> None:
        self._stage = Stage(job)

    def run(self, work: Work, birth: str, before: Passed | None) -> Passed:
        if birth != self._stage.birth:
            raise StageLost("a stage was started anew")
        return self._stage.run(work, before)

    def birth(self) -> str:
        return self._stage.birth


class _ActorChain:
    """Actors in a row; the rows go from one to the next without passing here."""

    def __init__(self, actors: Sequence[Any], threads: int) -> None:
        self._actors = actors
        self.threads = threads

    def run(self, work: Work, births: Sequence[str]) -> Passed:
        passed: Any = None
        try:
            for actor, birth in zip(self._actors, births, strict=True):
                passed = actor.run.remote(work, birth, passed)
            found: Passed = ray.get(passed)
        except _LOST as error:
            raise StageLost(" ".join(str(error).split())) from error
        except RayTaskError as error:  # the stage failed, or the one that is lost lies behind it
            if isinstance(error.cause, (StageLost, *_LOST)):
                raise StageLost(" ".join(str(error.cause).split())) from error
            raise
        return found

    def births(self) -> list[str]:
        """Raises ``LlamaqError`` where a stage does not come."""
        until = time.monotonic() + _LONGEST
        return [self._birth(actor, until) for actor in self._actors]

    def _birth(self, actor: Any, until: float) -> str:
        while True:
            try:
                birth: str = ray.get(actor.birth.remote(), timeout=max(until - time.monotonic(), 0.0))
                return birth
            except _LOST as error:
                check_born(error)
                if time.monotonic() > until:
                    raise LlamaqError(
                        "a stage of the model does not come back: no machine has its memory and CPUs"
                    ) from None
                time.sleep(_PAUSE)
            except ray.exceptions.GetTimeoutError:
                raise LlamaqError(
                    f"a stage of the model was not there within {_LONGEST:g} seconds: each needs a machine "
                    "with its CPUs free"
                ) from None


@contextmanager
def staged(
    model: str | os.PathLike[str], *, stages: int = 2, n_ctx: int = 2048, texts: int = 8, n_batch: int = 512,
    threads: int | None = None,
) -> Iterator[StagedModel]:  # fmt: skip
    """A model cut by layers over so many actors of the cluster that ``ray.init`` has joined, for the time of the
    context: each loads the tensors of its layers alone and keeps their part of the cache, with room for ``texts`` of
    ``n_ctx`` tokens at once. The file must have the same path on every machine; stages lie on different machines where
    there are as many. A stage that is killed is started anew, and what it knew is read again.

    Raises ``ModelError`` for a model that does not pass one row of floats from layer to layer, ``ValueError`` for
    more stages than layers, ``LlamaqError`` where stages do not come, and what ``LLM.load`` does.
    """
    stages, n_ctx, texts, n_batch = (
        whole(name, value, 1)
        for name, value in (("stages", stages), ("n_ctx", n_ctx), ("texts", texts), ("n_batch", n_batch))
    )
    cuts = even_cuts(model, stages, n_ctx)
    own = threads or threads_for(stages, cpus_of_nodes())
    lanes = min(2 * stages, texts)  # one step is on its way while the next is worked on
    room = -(-texts // lanes) * -(-n_ctx // PAGE_TOKENS) * PAGE_TOKENS
    path = whole_path(model)
    jobs = [StageJob(path, first, last, n_ctx, room, lanes, min(n_batch, n_ctx), own) for first, last in pairwise(cuts)]
    actor: Any = ray.remote(_StageActor).options(num_cpus=own, max_restarts=-1, scheduling_strategy="SPREAD")
    actors = [actor.remote(job) for job in jobs]
    with ExitStack() as stack:
        for each in actors:
            stack.callback(ray.kill, each)
        chain = _ActorChain(actors, own * stages)
        found = [stack.enter_context(open_lane(chain, jobs[0], lane)) for lane in range(lanes)]
        yield StagedModel(tuple(cuts), tuple(found))
