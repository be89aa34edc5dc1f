"""The block of a model's file that guesses further tokens (``models.nextn``), ready to run beside the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Engine, StopFlag
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import ModelError
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from llamaq.models import HParams, nextn_plan
from llamaq.models.nextn import embedding_of
from llamaq.plan.graph import Plan
from llamaq.plan.step import Step

__all__ = ["NextN", "nextn_of"]

logger = logging.getLogger("llamaq")

F32 = NDArray[np.float32]


def nextn_of(file: GGUFFile, hparams: HParams) -> Plan | None:
    """The plan of the file's block; None where it has none. The model answers without one, so that a block that does
    not fit is told of in the log."""
    try:
        return nextn_plan(hparams, {name: info.shape for name, info in file.tensors.items()})
    except ModelError as error:
        logger.warning("%s: its block that guesses further tokens is not used: %s", file.path, error)
        return None


class NextN:
    """A block with a cache of its own. It shares threads and weights of the model's ``engine``, which must not be
    closed before it. One thread at a time may use it."""

    def __init__(self, plan: Plan, engine: Engine, file: GGUFFile, layers: int, cache: KVCache, pack: bool) -> None:
        """``layers`` are those of the model."""
        self.cache = cache
        self.engine = Engine(
            plan, file, threads=engine.threads, max_rows=engine.max_rows, pack=pack, numerics=engine.numerics,
            beside=engine,
        )  # fmt: skip
        self.seen = engine.plan.last_states
        """What the model's steps have to capture (``Engine.forward``), and its columns."""
        self.share = _read_bytes(plan, file) / max(1, _read_bytes(engine.plan, file))
        """Of what a step of the model reads, what one of the block does."""
        last = engine.plan.nodes[-1].op.norm_first
        assert last is not None
        assert last.weight is not None
        self._norm, self._eps = _decoded(file, last.weight), last.eps
        table = embedding_of(file.tensors, layers)
        self._embedding: Any = file.tensors[table].format, file.data(table)
        self._file, self._stop = file, StopFlag()

    def close(self) -> None:
        """Frees the cache; the model's engine has the weights."""
        self.engine.close()
        self.cache.close()

    def normed(self, states: F32) -> F32:
        """The model's last states, float32 (n, width), behind its last norm, as the block wants them."""
        with np.errstate(all="ignore"):
            mean = np.mean(np.square(states, dtype=np.float64), axis=1, keepdims=True)
            return np.asarray(states / np.sqrt(mean + self._eps) * self._norm, np.float32)

    def rows(self, tokens: Sequence[int], states: F32) -> F32:
        """Rows to read, float32 (n, 2 * width): of tokens, each with the state before it, ``normed`` or the block's
        own."""
        self._file.check()
        format, table = self._embedding
        return np.concatenate([decode(format, table[np.asarray(tokens, np.intp)]), states], axis=1)

    def read(self, parts: Sequence[tuple[int, int, F32]]) -> tuple[F32, F32]:
        """Reads ``rows``, each part those of a sequence from a position on, and gives for the last of each logits,
        (parts, vocabulary), and its own states, (parts, width). Raises what ``Engine.forward`` does."""
        steps = [Step.of(-1 - np.arange(len(x)), sequence=sequence, start=at, given=x) for sequence, at, x in parts]
        step = steps[0] if len(steps) == 1 else Step.join(steps)
        op, slot, cols = self.engine.plan.last_states
        states = np.empty((len(step), cols), np.float32)
        logits = self.engine.forward(step, self.cache, stop=self._stop, captures={(op, slot): states})
        return logits, states[step.wanted]


def _decoded(file: GGUFFile, name: str) -> F32:
    return np.asarray(decode(file.tensors[name].format, file.data(name)), np.float32).ravel()


def _read_bytes(plan: Plan, file: GGUFFile) -> int:
    names = {weight.name for weight in plan.weights if weight.role in ("matrix", "stack")}
    return sum(file.tensors[name].nbytes for name in names)
