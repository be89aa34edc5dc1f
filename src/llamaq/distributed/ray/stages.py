"""A model whose layers lie on several machines of a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayTaskError

from llamaq.boundary.arguments import items, whole
from llamaq.distributed.pipeline import Pipeline, StageLost, Text
from llamaq.distributed.ray.cluster import cpus_of_nodes
from llamaq.distributed.spread import threads_for
from llamaq.distributed.stages import Stage, StageJob, Work, even_cuts
from llamaq.errors import LlamaqError
from llamaq.gguf import GGUFFile
from llamaq.sampling import SamplingParams
from llamaq.tokenizer import Tokenizer, load_tokenizer

__all__ = ["StagedModel", "staged"]

_LOST = (ActorUnavailableError, RayActorError, ObjectLostError)
_PAUSE = 0.5
_LONGEST = 600.0
"""Seconds that a stage may take to be there, or there again."""


class _StageActor:
    """An actor with some layers."""

    def __init__(self, job: StageJob) -> None:
        self._stage = Stage(job)

    def run(self, work: Work, rows: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return self._stage.run(work, rows)

    def is_there(self) -> bool:
        return True


class _ActorChain:
    """Actors in a row; the rows go from one to the next without passing here."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors

    def begin(self, work: Work) -> Any:
        rows = None
        shared = ray.put(work)
        for actor in self._actors:
            rows = actor.run.remote(shared, rows)
        return rows

    def ready(self, futures: list[Any]) -> Sequence[Any]:
        found: list[Any] = ray.wait(futures, num_returns=1)[0]
        return found

    def logits(self, future: Any) -> NDArray[np.float32]:
        try:
            found: NDArray[np.float32] = ray.get(future)
        except _LOST as error:
            raise StageLost(" ".join(str(error).split())) from error
        except RayTaskError as error:  # of a stage behind the one that is lost
            if isinstance(error.cause, _LOST):
                raise StageLost(" ".join(str(error.cause).split())) from error
            raise
        return found

    def recover(self) -> None:
        """Raises ``LlamaqError`` where a stage does not come."""
        until = time.monotonic() + _LONGEST
        for actor in self._actors:
            while True:
                try:
                    ray.get(actor.is_there.remote(), timeout=max(until - time.monotonic(), 0.0))
                    break
                except _LOST:
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


@dataclass(frozen=True)
class StagedModel:
    """A model in stages. ``cuts`` are the layers with which they begin, and the number of all."""

    cuts: tuple[int, ...]
    tokenizer: Tokenizer
    pipeline: Pipeline[Any]

    def batch(
        self, prompts: Sequence[str | Sequence[int]], *, max_tokens: int | None = None,
        sampling: SamplingParams | None = None, samplings: Sequence[SamplingParams] | None = None,
    ) -> list[Text]:  # fmt: skip
        """The answers to prompts, with the text and tokens that ``LLM.batch`` gives of the whole model; ``samplings``
        are one for each in the place of one ``sampling`` for all. Raises ``ContextOverflowError`` for a prompt that is
        too long, ``LlamaqError`` where stages are lost again and again."""
        prompts = items("prompts", prompts, "texts")
        each = [sampling or SamplingParams()] * len(prompts) if samplings is None else list(samplings)
        if len(each) != len(prompts):
            raise ValueError(f"samplings must be as many as prompts: got {len(each)} for {len(prompts)}")
        return self.pipeline.write([self._ids(prompt) for prompt in prompts], each, max_tokens)

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        ids = self.tokenizer.encode(prompt, parse_special=True) if isinstance(prompt, str) else list(prompt)
        begin = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        return ids or begin


@contextmanager
def staged(
    model: str | os.PathLike[str], *, stages: int = 2, n_ctx: int = 2048, texts: int = 8, n_batch: int = 512,
    threads: int | None = None,
) -> Iterator[StagedModel]:  # fmt: skip
    """A model cut by layers over so many actors of the cluster that ``ray.init`` has joined, for the time of the
    context: each loads the tensors of its layers alone and keeps their part of the cache, with room for ``texts`` of
    ``n_ctx`` tokens at once. The file must have the same path on every machine; stages lie on different machines where
    there are as many. A stage that is killed is started anew, and reads again what it knew.

    Raises ``ModelError`` for a model that does not pass one row of floats from layer to layer, ``ValueError`` for
    more stages than layers, ``LlamaqError`` where stages do not come, and what ``LLM.load`` does.
    """
    stages, n_ctx, texts, n_batch = (
        whole(name, value, 1)
        for name, value in (("stages", stages), ("n_ctx", n_ctx), ("texts", texts), ("n_batch", n_batch))
    )
    cuts = even_cuts(model, stages, n_ctx)
    with GGUFFile.open(model) as file:
        tokenizer = load_tokenizer(file.metadata)
    own = threads or threads_for(stages, cpus_of_nodes())
    actor: Any = ray.remote(_StageActor).options(num_cpus=own, max_restarts=-1, scheduling_strategy="SPREAD")
    actors = [actor.remote(StageJob(model, first, last, n_ctx, texts, n_batch, own)) for first, last in pairwise(cuts)]
    try:
        chain = _ActorChain(actors)
        chain.recover()
        groups = min(2 * stages, texts)  # one is on its way while the next is worked on
        pipeline = Pipeline(chain, tokenizer, n_ctx=n_ctx, texts=texts, n_batch=n_batch, groups=groups)
        yield StagedModel(tuple(cuts), tokenizer, pipeline)
    finally:
        for each in actors:
            ray.kill(each)
