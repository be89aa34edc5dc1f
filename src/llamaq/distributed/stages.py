"""A model cut by layers: each stage loads the tensors of its own, and passes rows of floats to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import CacheType, KVCache, StateSlots
from llamaq.engine.loading import plan_of
from llamaq.engine.page_pool import PagePool
from llamaq.engine.stage_input import StageInput
from llamaq.engine.topology import default_threads
from llamaq.gguf import GGUFFile
from llamaq.plan.cut import INPUT, cut_plan, layer_count, place_in_part
from llamaq.plan.plan import Plan
from llamaq.plan.step import Step

__all__ = ["Passed", "Stage", "StageJob", "Work", "even_cuts"]


@dataclass(frozen=True)
class StageJob:
    """Layers ``first`` to before ``last`` of a model, with ``lanes`` caches for ``n_cache`` tokens each, in steps of
    ``n_batch`` rows; plain data that can be sent. The bits do not depend on ``threads`` (None: as for ``LLM.load``) nor
    on ``pack``."""

    model: str | os.PathLike[str]
    first: int
    last: int
    n_ctx: int
    n_cache: int
    lanes: int
    n_batch: int = 512
    threads: int | None = None
    pack: bool = True
    cache_type: CacheType = "f16"


@dataclass(frozen=True)
class Work:
    """What one step asks of each stage, of its cache number ``lane``: pages and states to be copied before, by the
    number of their pool, and where its sequences have theirs (``KVCache.tables``, ``KVCache.state_slots``). Of
    ``captures`` (op and slot of the whole plan, columns) each stage shows those that lie in it."""

    lane: int
    step: Step
    copies: Sequence[Sequence[tuple[int, int]]]
    tables: Sequence[NDArray[np.int32]]
    slots: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None
    captures: Sequence[tuple[int, int, int]] = ()


@dataclass(frozen=True, eq=False)
class Passed:
    """What a stage passes on: of the last the logits of the wanted rows, float32 (wanted, vocabulary); of others all
    rows for the next, float32 (rows, columns). ``seen`` is what was captured so far, float32 (rows, columns), by the op
    and slot of the whole plan."""

    rows: NDArray[np.float32]
    seen: Mapping[tuple[int, int], NDArray[np.float32]]


class Stage:
    """Some layers of a model, ready to run. ``birth`` is another one for each. Raises what ``LLM.load`` does, and
    ``ModelError`` for a model that cannot be cut so."""

    def __init__(self, job: StageJob) -> None:
        self.job, self.birth = job, uuid4().hex
        self._file = GGUFFile.open(job.model)
        try:
            _, whole = plan_of(self._file, job.n_ctx)
            self._whole = whole
            plan = cut_plan(whole, job.first, job.last)
            self._is_first, self._is_last = job.first == 0, job.last == layer_count(whole)
            self._caches = [_Pages(plan, whole, job.n_cache, job.cache_type, job.n_batch) for _ in range(job.lanes)]
            threads = job.threads or default_threads().threads
            self._input = StageInput(self._file, job.n_batch, plan.nodes[0].cols[0])
            source = self._file if self._is_first else self._input
            self._engine = Engine(plan, source, threads=threads, max_rows=job.n_batch, pack=job.pack)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Frees all at once."""
        self._engine.close()
        for cache in self._caches:
            cache.close()
        self._file.close()

    def run(self, work: Work, before: Passed | None) -> Passed:
        """What this stage makes of what the one before has passed; the first has none. Raises what ``Engine.forward``
        does."""
        step = work.step
        wanted = step.wanted if self._is_last else np.ones(len(step), np.bool_)
        tokens = step.tokens if before is None else self._input.put(before.rows)
        own = {(op, slot): np.empty((len(step), cols), np.float32) for op, slot, cols in work.captures}
        places = {where: self._place(*where) for where in own}
        cache = self._caches[work.lane]
        cache.take(work)
        captures = {place: own[where] for where, place in places.items() if place is not None}
        rows = self._engine.forward(replace(step, tokens=tokens, wanted=wanted), cache, captures=captures)
        seen = {where: own[where] for where, place in places.items() if place is not None}
        return Passed(rows, {**(before.seen if before else {}), **seen})

    def _place(self, op: int, slot: int) -> tuple[int, int] | None:
        return place_in_part(self._whole, self._engine.plan, self.job.first, self.job.last, op, slot)


class _Pages(KVCache):
    """The memory of a stage's layers. Which pages are whose is told with each work."""

    def __init__(self, plan: Plan, whole: Plan, n_cache: int, cache_type: CacheType, max_rows: int) -> None:
        super().__init__(plan, n_cache, cache_type, max_rows=max_rows)
        places = {(group.window, group.chunk): i for i, group in enumerate(whole.caches)}
        self._places = [places[group.window, group.chunk] for group in plan.caches]
        self._counted = [] if self._places or not plan.states else [0]  # a group that holds nothing
        self._work: Work | None = None

    def take(self, work: Work) -> None:
        """Does the copies of a work, and is its cache from then on."""
        places = [*self._places, *self._counted, *([] if self.states is None else [len(work.copies) - 1])]
        for pool, place in zip(self.pools, places, strict=True):
            for source, target in work.copies[place]:
                for layer in pool.layers:
                    layer[target] = layer[source]
        self._work = work

    def length(self, sequence: int) -> int:
        assert self._work is not None
        return self._work.step.spans[sequence][0]

    def truncate(self, sequence: int, length: int) -> None:
        return

    def reserve(self, sequence: int, length: int) -> None:
        return

    def commit(self, sequence: int, length: int) -> None:
        return

    def tables(self, sequences: Sequence[int]) -> Iterator[tuple[PagePool, NDArray[np.int32]]]:
        assert self._work is not None
        for pool, place in zip(self.pools, self._places, strict=False):
            yield pool, self._work.tables[place]

    def state_slots(self, step: Step) -> StateSlots | None:
        assert self._work is not None
        if self.states is None or self._work.slots is None:
            return None
        return self.states.data, *self._work.slots


def even_cuts(path: str | os.PathLike[str], stages: int, n_ctx: int | None = None) -> list[int]:
    """The layers with which each of so many stages begins, and the number of all: cut so that the largest stage has
    the fewest bytes of weights. Raises ``ValueError`` for more stages than layers, and as ``plan_of``."""
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file, n_ctx)
        layers = layer_count(plan)
        if not 1 <= stages <= layers:
            raise ValueError(f"stages must be 1 to the {layers} layers of {Path(path).name}, got {stages}")
        sizes = [_bytes(cut_plan(plan, i, i + 1) if layers > 1 else plan, file.tensors) for i in range(layers)]
    return _split(sizes, stages)


def _bytes(plan: Plan, tensors: Mapping[str, Any]) -> int:
    """Of the weights that a part of a plan reads."""
    found = 0
    for weight in plan.weights:
        if weight.name == INPUT:
            continue
        info = tensors[weight.name]
        rows = info.shape[-2] if len(info.shape) > 1 else 1
        part = rows if weight.rows is None else weight.rows[1] - weight.rows[0]
        found += info.nbytes * part // rows if prod(info.shape) else 0
    return found


def _split(sizes: Sequence[int], parts: int) -> list[int]:
    """Where so many parts of a list begin, whose largest sum is as small as can be, and its length."""
    best: dict[tuple[int, int], tuple[int, list[int]]] = {(0, 0): (0, [])}
    for part in range(1, parts + 1):
        for end in range(part, len(sizes) - parts + part + 1):
            choices = [
                (max(best[part - 1, begin][0], sum(sizes[begin:end])), [*best[part - 1, begin][1], begin])
                for begin in range(part - 1, end)
                if (part - 1, begin) in best
            ]
            best[part, end] = min(choices)
    return [*best[parts, len(sizes)][1], len(sizes)]
