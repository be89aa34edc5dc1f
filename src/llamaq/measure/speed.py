"""Speed of a model: prompts read and tokens written, and what share of the machine's limits that is.

Tokens are random ids: nothing is tokenized, sampled or turned into text. Times are wall time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.engine.engine import Engine, Info
from llamaq.engine.kv_cache import CacheType, KVCache, cache_bytes, group_bytes
from llamaq.engine.memory import available_memory
from llamaq.errors import InsufficientMemoryError, ModelError, naming
from llamaq.plan.graph import Plan
from llamaq.plan.operands import Weight
from llamaq.plan.step import Step

__all__ = ["Work", "Workload", "seconds", "work_of"]


@dataclass(frozen=True)
class Workload:
    """``n_parallel`` sequences of ``n_depth`` tokens each read ``n_prompt`` tokens, then write ``n_gen`` tokens,
    one of every sequence in a step."""

    n_prompt: int
    n_gen: int
    n_depth: int = 0
    n_parallel: int = 1

    def __str__(self) -> str:
        """The name that llama-bench gives: ``pp512``, ``tg64 @ d4096``; four sequences are ``tg64 x4``."""
        parts = [f"{name}{n}" for name, n in (("pp", self.n_prompt), ("tg", self.n_gen)) if n]
        several = f" x{self.n_parallel}" if self.n_parallel > 1 else ""
        return "+".join(parts) + several + (f" @ d{self.n_depth}" if self.n_depth else "")

    @property
    def tokens(self) -> int:
        """Tokens that are read and written."""
        return self.n_parallel * (self.n_prompt + self.n_gen)

    def steps(self, n_batch: int) -> Iterator[tuple[int, int, int]]:
        """Forward passes: tokens of each sequence before it, rows of each sequence, rows of logits."""
        rows_at_once = max(1, n_batch // self.n_parallel)
        for i in range(0, self.n_prompt, rows_at_once):
            rows = min(rows_at_once, self.n_prompt - i)
            yield self.n_depth + i, rows, self.n_parallel * (i + rows == self.n_prompt)
        for i in range(self.n_gen):
            yield self.n_depth + self.n_prompt + i, 1, self.n_parallel


@dataclass(frozen=True)
class Work:
    """What a workload cannot do without: bytes of weights and cache, read once a step, of states, read and written, and
    operations of int8 matmuls (a product and its addition are two). Of experts those count that a step's rows go to, if
    each row goes to any with the same chance."""

    nbytes: int
    int8_ops: int


def work_of(workload: Workload, plan: Plan, tensors: Mapping[str, Info], n_batch: int, cache_type: CacheType) -> Work:
    """The work of a workload in steps of up to ``n_batch`` rows."""
    body, head, selected = _Weights(), _Weights(), False
    for node in plan.nodes:
        selected = selected or node.op.selects
        for weight in node.op.reads():
            if weight.role != "table":
                (head if selected else body).add(weight, tensors[weight.name], node.op.experts_used)
    page = _core.PAGE_TOKENS
    caches = [(group.window, group_bytes(group, page, cache_type) / page) for group in plan.caches]
    states = 2 * 4 * sum(state.floats for state in plan.states)
    nbytes, ops = 0.0, 0
    for start, rows, logits in workload.steps(n_batch):
        cache = sum(token * min(start + rows, (window or start + 1) + rows - 1) for window, token in caches)
        nbytes += body.nbytes(rows * workload.n_parallel) + (head.nbytes(logits) if logits else 0)
        nbytes += workload.n_parallel * (cache + states)
        ops += 2 * (body.int8 * rows * workload.n_parallel + head.int8 * logits)
    return Work(round(nbytes), ops)


class _Weights:
    """Bytes of tensors, and how many of their numbers int8 kernels multiply a row with."""

    def __init__(self) -> None:
        self.int8 = 0
        self._nbytes: Counter[float] = Counter()  # bytes by the share of experts that a row goes to

    def add(self, weight: Weight, info: Info, used: int | None) -> None:
        part, share = 1.0, 1.0
        if weight.rows is not None:
            part = (weight.rows[1] - weight.rows[0]) / info.shape[-1 if weight.role == "vector" else -2]
        if used is not None:
            share = used / info.shape[0]
        self._nbytes[share] += round(part * info.nbytes)
        if weight.role != "vector" and "_i8_" in _core.kernel_name("", info.format.id):
            self.int8 += round(part * share * prod(info.shape))

    def nbytes(self, rows: int) -> float:
        """Bytes that so many rows read."""
        return sum(nbytes * (1 - (1 - share) ** rows) for share, nbytes in self._nbytes.items())


def seconds(
    engine: Engine, workload: Workload, n_batch: int, cache_type: CacheType, *, warm_up: bool = True
) -> Iterator[float]:
    """Runs a workload in steps of up to ``n_batch`` rows, again and again as it is asked: seconds of each run.

    The ``n_depth`` tokens before it are not read token by token: one page of the cache is, and copied as often as
    needed. Raises ``InsufficientMemoryError`` where the cache does not fit.
    """
    if engine.plan.encodes:
        raise ModelError("the model is an encoder, and writes no text to measure; choose another model")
    cache = _filled_cache(engine, workload, cache_type)
    rng = np.random.default_rng(0)
    vocabulary = engine.plan.out_cols
    each = workload.n_prompt + workload.n_gen
    ids = rng.integers(0, vocabulary, (workload.n_parallel, each), np.int32)
    if warm_up:
        short = Workload(min(workload.n_prompt, 16), min(workload.n_gen, 2), workload.n_depth, workload.n_parallel)
        _read(engine, cache, short, n_batch, ids)
    while True:
        began = time.perf_counter_ns()
        _read(engine, cache, workload, n_batch, ids)
        yield (time.perf_counter_ns() - began) / 1e9


def _read(engine: Engine, cache: KVCache, workload: Workload, n_batch: int, ids: NDArray[np.int32]) -> None:
    for i in range(len(ids)):
        cache.adopt(i, cache.pages(len(ids) + i), workload.n_depth)
    for start, rows, logits in workload.steps(n_batch):
        at = start - workload.n_depth
        wanted: Literal["last", "none"] = "last" if logits else "none"
        parts = [Step.of(ids[i, at : at + rows], sequence=i, start=start, wanted=wanted) for i in range(len(ids))]
        engine.forward(parts[0] if len(parts) == 1 else Step.join(parts), cache)


def _filled_cache(engine: Engine, workload: Workload, cache_type: CacheType) -> KVCache:
    """A cache with room for the workload, its memory touched, in which ``n_parallel`` more sequences hold the
    ``n_depth`` tokens with which the others begin."""
    page = _core.PAGE_TOKENS
    pages = -(-(workload.n_depth + workload.n_prompt + workload.n_gen) // page) + 1  # its first page is copied
    n_ctx, room = workload.n_parallel * pages * page, {"max_rows": engine.max_rows, "texts": 2 * workload.n_parallel}
    needed, available = cache_bytes(engine.plan, n_ctx, cache_type, **room), available_memory()
    if available is not None and needed > available:
        message = (
            f"{workload} needs a cache of {needed} bytes, but {available} are available; lower n_depth or n_parallel"
        )
        raise naming(InsufficientMemoryError(message, needed=needed, available=available), "n_depth", "n_parallel")
    cache = KVCache(engine.plan, n_ctx, cache_type, **room)
    if workload.n_depth == 0:
        for layer in cache.by_layer():
            layer.fill(0)
        return cache
    first = min(page, workload.n_depth, engine.max_rows)
    engine.forward(Step.of(np.arange(first) % engine.plan.out_cols, wanted="none"), cache)
    for pool, written in zip(cache.pools, cache.pages(0)[0], strict=True):
        for layer in pool.layers:
            layer[:] = layer[written].copy()
    cache.drop(0)
    for sequence in range(workload.n_parallel):
        cache.place(workload.n_parallel + sequence, workload.n_depth)
    return cache
