"""The compiled engine: packs a model's tensors, keeps the thread team, runs forward passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.boundary.progress import Progress
from llamaq.engine.kv_cache import KVCache, format_of
from llamaq.engine.topology import default_threads
from llamaq.errors import ClosedError, ModelError
from llamaq.formats import Format, can_decode, decode, format_by_name
from llamaq.plan.adapter import Adapted, Directions, LowRank
from llamaq.plan.operands import StateLayer, Weight
from llamaq.plan.plan import Node, Plan
from llamaq.plan.rope import Rope
from llamaq.plan.step import Step

__all__ = ["Captures", "Engine", "Numerics", "StopFlag", "Tensors", "mapped_bytes", "numerics_here", "packed_bytes"]

logger = logging.getLogger("llamaq")

Numerics: TypeAlias = Literal["exact", "fast"]
"""The same bits everywhere, or bfloat16 products for prompts where the CPU has tiles for them (docs/numerics.md)."""

Captures = Mapping[tuple[int, int], NDArray[np.float32]]
"""Arrays (rows, cols) that get a copy of a step's rows: by the number of an op, and the slot to look at after it."""

StopFlag = _core.StopFlag
"""``set()`` it from any thread to end one forward pass; until ``set(False)`` it ends the next ones too."""


def numerics_here(wanted: Numerics) -> Numerics:
    """What the SIMD level in use makes of ``wanted``: where it has no tiles, "fast" is "exact", which the log says.

    Raises ``ValueError`` for another word.
    """
    if wanted not in ("exact", "fast"):
        raise ValueError(f"numerics must be 'exact' or 'fast', got {wanted!r}")
    if wanted == "fast" and not _core.has_fast():
        logger.info("numerics 'fast' is the same as 'exact' on the SIMD level %s; it needs AMX", _core.chosen_isa())
        return "exact"
    return wanted


class Info(Protocol):
    """What the engine asks of a tensor's entry (``gguf.TensorInfo``)."""

    @property
    def format(self) -> Format: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...


class Tensors(Protocol):
    """A source of tensors (``gguf.GGUFFile``, or a stand-in in tests)."""

    @property
    def tensors(self) -> Mapping[str, Info]: ...
    @property
    def mapped(self) -> bool: ...
    def data(self, name: str) -> NDArray[np.uint8]: ...
    def check(self) -> None: ...


def packed_bytes(plan: Plan, tensors: Mapping[str, Info], beside: Plan | None = None) -> int:
    """Bytes of memory that the plan's matrices and stacks take once packed, without those that it shares with the plan
    ``beside`` it."""
    total, shared = 0, () if beside is None else beside.weights
    for weight in plan.weights:
        if weight.role in ("matrix", "stack") and weight not in shared:
            format = _runnable(weight.name, tensors[weight.name])
            matrices = tensors[weight.name].shape[0] if weight.role == "stack" else 1
            total += matrices * _core.packed_bytes(format.id, *_matrix_shape(weight, tensors))
    return total


def mapped_bytes(plan: Plan, tensors: Mapping[str, Info], *, pack: bool) -> int:
    """Bytes of the file that forward passes read: embedding tables, and matrices that are not packed."""
    roles = {"table"} if pack else {"table", "matrix", "stack"}
    return sum(tensors[name].nbytes for name in {w.name for w in plan.weights if w.role in roles})


def _matrix_shape(weight: Weight, tensors: Mapping[str, Info]) -> tuple[int, int]:
    """Rows and columns of a matrix or table, or of each matrix of a stack."""
    *_, rows, cols = tensors[weight.name].shape
    return rows if weight.rows is None else weight.rows[1] - weight.rows[0], cols


def _runnable(name: str, info: Info) -> Format:
    if not can_decode(info.format):
        raise ModelError(
            f"tensor {name!r} is in the format {info.format.name}, for which llamaq has no decoder; "
            "quantize the model to another format"
        )
    return info.format


class Engine:
    """A plan with its weights, ready to run on ``threads`` threads, in steps of up to ``max_rows`` rows.

    Without ``pack`` matrices stay in the source and each forward packs what it reads of them: slower, the same
    bits, no memory but the system's cache of the file. Sources that give copies are packed always. ``numerics``
    "fast" trades bits for speed where the level can (docs/numerics.md). ``progress``
    is called with the bytes loaded so far and in total. The tensors' source must stay valid while the engine
    lives: embedding rows are read from it. ``beside`` is an engine of the same source, whose threads and weights this
    one shares. Raises ``ModelError`` for a tensor in a format that cannot be decoded.
    """

    def __init__(
        self,
        plan: Plan,
        source: Tensors,
        *,
        threads: int,
        max_rows: int = 512,
        pack: bool = True,
        numerics: Numerics = "exact",
        progress: Progress | None = None,
        beside: Engine | None = None,
    ) -> None:
        self.plan = plan
        self.numerics = numerics_here(numerics)
        """What runs, which may be "exact" where "fast" was asked for."""
        self.max_rows = max_rows
        self._team: Any
        self._weights: Any
        self._numbers: dict[Weight, int]
        if beside is None:
            self._team = _core.ThreadTeam(threads, threads <= default_threads().allowed)
            self._weights, self._numbers = _core.Weights(), {}
        else:
            self._team, self._weights, self._numbers = beside._team, beside._weights, dict(beside._numbers)
        self._check = source.check
        self._load(source, pack, progress or (lambda done, total: None))
        lowering = _Numbers(plan, self._numbers)
        self._executor: Any = _core.Executor(
            [(node.op.kind, lowering.attributes(node)) for node in plan.nodes],
            list(plan.slot_cols),
            plan.out,
            [(np.array(r.frequencies), r.attention_factor, r.layout == "norm", list(r.axes)) for r in lowering.ropes],
            [
                [(layer.kv_heads, layer.head_dim, layer.value_dim, layer.window, layer.chunk) for layer in group.layers]
                for group in plan.caches
            ],
            [state.floats for state in plan.states],
            self._weights,
            self._team,
            max_rows,
            self.numerics == "fast",
        )

    def close(self) -> None:
        """Ends the threads and frees the weights at once. A forward pass afterwards raises ``ClosedError``."""
        self._executor = self._weights = self._team = None

    @property
    def isa(self) -> str:
        """The SIMD level that runs."""
        return str(self._weights.isa)

    @property
    def threads(self) -> int:
        """Threads of the team, the caller's included."""
        return int(self._team.size)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of activations and scratch. Tests hold what ``memory_need`` foretells against it."""
        return int(self._executor.scratch_bytes)

    def attach(self, adapter: LowRank, directions: Directions | None = None) -> object:
        """Packs an adapter: what steps name it by. It takes its memory for as long as that is held."""
        self._running()
        factors = []
        for weight, found in adapter.items():
            a_format, a = _as_floats(found.a_format, found.a, looked_up=weight.role == "table")
            b_format, b = _as_floats(found.b_format, found.b)
            factors.append((self._numbers[weight], found.rank, a_format.id, a, b_format.id, b, found.scale))
        moved = [(i, self.plan.nodes[i].outs[0], vector) for i, vector in (directions or {}).items()]
        return _core.Adapter(self._weights, factors, moved)

    def forward(
        self,
        step: Step,
        cache: KVCache,
        *,
        stop: StopFlag | None = None,
        captures: Captures | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Logits of the wanted rows, float32 (wanted, vocabulary); the step's rows go to the cache.

        With ``stop`` that flag alone ends the pass; otherwise Ctrl-C does, and ``progress`` gets the
        ops that are done and in total, now and then. ``captures`` are filled on the way.
        Raises ``ContextOverflowError`` where the cache is full, ``ValueError`` for a step that does not
        continue its sequences, ``LlamaqError`` for a token outside the vocabulary, ``KeyboardInterrupt`` on
        Ctrl-C, ``GGUFError`` for a file that has been shortened meanwhile, ``CancelledError`` and ``ClosedError``; the
        cache then holds what it held before.
        """
        self._running()
        self._check()
        if len(step) > self.max_rows:
            raise ValueError(f"a step of {len(step)} rows exceeds max_rows ({self.max_rows}); split it")
        if not self.plan.selects and not step.wanted.all():
            raise ValueError("the plan ends with all rows of a step: it must want all of them")
        for sequence, (start, _) in step.spans.items():
            if start > cache.length(sequence):
                raise ValueError(f"sequence {sequence} has {cache.length(sequence)} tokens; the step begins at {start}")
        for sequence, (start, end) in step.spans.items():
            cache.truncate(sequence, start)
            cache.reserve(sequence, end)
        logits = self._run(step, cache, stop, captures, progress)
        for sequence, (_, end) in step.spans.items():
            cache.commit(sequence, end)
        return logits

    def _run(
        self, step: Step, cache: KVCache, stop: StopFlag | None, captures: Captures | None, progress: Progress | None
    ) -> NDArray[np.float32]:
        """The logits of a step whose sequences have their pages."""
        sequences = [*step.spans]
        places = {sequence: i for i, sequence in enumerate(sequences)}
        rows = np.array([places[sequence] for sequence in step.sequences.tolist()], np.int32)
        selected = np.nonzero(step.wanted)[0].astype(np.int32)
        logits = np.empty((len(selected), self.plan.out_cols), np.float32)
        count = len(self.plan.nodes)
        told = {} if progress is None else {"progress": lambda done: progress(done, count)}
        self._running().forward(
            step.tokens, step.positions, rows, len(sequences),
            [(pool.data, table) for pool, table in cache.tables(sequences)],
            format_of(cache.cache_type).id, cache.state_slots(step),
            selected, logits, stop,
            [(*place, array) for place, array in (captures or {}).items()], *_adaptations(step, sequences),
            step.last_seen, step.given, step.places,
            [(picture.pages, picture.count, picture.format.id) for picture in step.pictures], step.seen, step.marked,
            **told,
        )  # fmt: skip
        return logits

    def collect_squares(self, on: bool = True) -> None:
        """Adds up the squares of what matrices are multiplied with, from the next forward pass on (or no longer)."""
        self._running().collect_squares(on)

    def squares(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """By the tensor's name: rows that its matrices were multiplied with since ``collect_squares()``, int64
        (matrices,), and the sums of their squares by column, float64 (matrices, columns); a stack has a matrix for each
        expert, others have one. The same for any number of threads."""
        found = {}
        for i, node in enumerate(self.plan.nodes):
            names = [weight.name for weight in node.op.reads() if weight.role in ("matrix", "stack")]
            if names:
                found.update(dict.fromkeys(names, self._running().squares(i)))
        return found

    def _running(self) -> Any:
        if self._executor is None:
            raise ClosedError("the model is closed; load it again")
        return self._executor

    def _load(self, source: Tensors, pack: bool, progress: Progress) -> None:
        """Packs matrices, copies vectors, leaves embedding tables where they are."""
        total = 0
        for weight in self.plan.weights:
            if weight in self._numbers:
                continue
            fmt, data = _runnable(weight.name, source.tensors[weight.name]), source.data(weight.name)
            rows = slice(None) if weight.rows is None else slice(*weight.rows)
            if weight.role == "vector":
                number = self._weights.vector(
                    np.ascontiguousarray(decode(fmt, data)[..., rows], np.float32).reshape(-1)
                )
            elif weight.role == "table":
                number = self._weights.raw(fmt.id, *_matrix_shape(weight, source.tensors), data)
            else:
                if weight.role == "stack":
                    experts, all_rows, cols = source.tensors[weight.name].shape
                    begin, end = weight.rows or (0, all_rows)
                    number = self._weights.stack(fmt.id, experts, all_rows, cols, begin, end, data, source.mapped)
                else:
                    shape = _matrix_shape(weight, source.tensors)
                    number = self._weights.matrix(fmt.id, *shape, data[rows], source.mapped)
                total += data[..., rows, :].nbytes
                if not source.mapped:  # its data may be a copy, so it goes before the next one comes
                    self._weights.pack(self._team)
            self._numbers[weight] = number
        if pack:
            progress(0, total)
            self._weights.pack(self._team, lambda done: progress(done, total))
        progress(total, total)


def _adaptations(step: Step, sequences: Sequence[int]) -> tuple[list[Adapted], NDArray[np.int32]]:
    """The different lists of adapters that sequences have, and the number of each one's (-1: none)."""
    lists = dict.fromkeys(tuple(adapters) for adapters in step.adapters.values())
    numbers = {adapters: i for i, adapters in enumerate(lists)}
    found = [numbers.get(tuple(step.adapters.get(sequence, ())), -1) for sequence in sequences]
    return list(lists), np.array(found, np.int32)


def _as_floats(format: Format, data: NDArray[np.uint8], *, looked_up: bool = False) -> tuple[Format, NDArray[np.uint8]]:
    """Rows of factors as they are multiplied: in their format, if its numbers are floats, otherwise, and where they
    are ``looked_up``, as F32."""
    if not looked_up and format.name in ("F32", "F16", "BF16"):
        return format, data.reshape(-1, data.shape[-1])
    values = np.ascontiguousarray(decode(format, data), np.float32)
    return format_by_name("F32"), values.reshape(-1, values.shape[-1]).view(np.uint8)


class _Numbers:
    """What stands for weights, ropes and layers of the cache in the compiled executor (``plan.op.Lowering``)."""

    def __init__(self, plan: Plan, weights: Mapping[Weight, int]) -> None:
        self.ropes = list(dict.fromkeys(rope for node in plan.nodes for rope in node.op.ropes()))
        self._weights = weights
        self._states = plan.states
        self._layers = {
            layer.layer: (number, index)
            for number, group in enumerate(plan.caches)
            for index, layer in enumerate(group.layers)
        }

    def attributes(self, node: Node) -> dict[str, object]:
        """An op's attributes as its file in csrc/engine/ops reads them, with its slots."""
        slots = {name: list(slots) for name, slots in (("ins", node.ins), ("outs", node.outs)) if slots}
        marked = {"only_marked": True} if node.only_marked else {}
        return {**slots, **marked, **node.op.attributes(self)}

    def weight(self, weight: Weight) -> int:
        return self._weights[weight]

    def rope(self, rope: Rope) -> int:
        return self.ropes.index(rope)

    def cache(self, layer: int) -> tuple[int, int]:
        return self._layers[layer]

    def state(self, state: StateLayer) -> int:
        return self._states.index(state)
