"""A model cut by layers: each stage loads the tensors of its own, and passes rows of floats to the next."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.engine.loading import plan_of
from llamaq.engine.stage_input import StageInput
from llamaq.engine.topology import default_threads
from llamaq.gguf import GGUFFile
from llamaq.plan.cut import INPUT, cut_plan, layer_count
from llamaq.plan.plan import Plan
from llamaq.plan.step import Step

__all__ = ["Stage", "StageJob", "Work", "even_cuts"]


@dataclass(frozen=True)
class StageJob:
    """Layers ``first`` to before ``last`` of a model, with room for so many ``texts`` of ``n_ctx`` tokens, in steps of
    ``n_batch`` rows; plain data that can be sent. The bits do not depend on ``threads`` (None: as for ``LLM.load``) nor
    on ``pack``."""

    model: str | os.PathLike[str]
    first: int
    last: int
    n_ctx: int
    texts: int
    n_batch: int = 512
    threads: int | None = None
    pack: bool = True


@dataclass(frozen=True)
class Work:
    """What one step asks of each stage: the rows of a ``Step``, and sequences that are to be forgotten before."""

    tokens: NDArray[np.int32]
    sequences: NDArray[np.int32]
    positions: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    forget: tuple[int, ...] = field(default=())


class Stage:
    """Some layers of a model, ready to run. Raises what ``LLM.load`` does, and ``ModelError`` for a model that cannot
    be cut so."""

    def __init__(self, job: StageJob) -> None:
        self._file = GGUFFile.open(job.model)
        try:
            _, whole = plan_of(self._file, job.n_ctx)
            plan = cut_plan(whole, job.first, job.last)
            self._is_first, self._is_last = job.first == 0, job.last == layer_count(whole)
            tokens = job.texts * -(-job.n_ctx // PAGE_TOKENS) * PAGE_TOKENS
            self._cache = KVCache(plan, tokens, max_rows=job.n_batch, texts=job.texts)
            threads = job.threads or default_threads().threads
            self._input = StageInput(self._file, job.n_batch, plan.nodes[0].cols[0])
            source = self._file if self._is_first else self._input
            self._engine = Engine(plan, source, threads=threads, max_rows=job.n_batch, pack=job.pack)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Frees all at once."""
        for part in (self._engine, self._cache, self._file):
            part.close()

    def run(self, work: Work, rows: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Of the last stage the logits of the wanted rows, float32 (wanted, vocabulary); of others all rows for the
        next, float32 (rows, columns). ``rows`` are those of the stage before; the first has none. Raises what
        ``Engine.forward`` does."""
        for sequence in work.forget:
            self._cache.drop(sequence)
        wanted = work.wanted if self._is_last else np.ones(len(work.tokens), np.bool_)
        tokens = work.tokens if rows is None else self._input.put(rows)
        step = Step(tokens, work.sequences, work.positions, wanted)
        return self._engine.forward(step, self._cache)


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
