"""Run a plan in NumPy, one op at a time, with the bits of docs/numerics.md.

Slow on purpose: this is what the C++ executor must equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.formats import Format, Unpacked, can_unpack, decode, unpack
from llamaq.plan.adapter import Directions, LowRank
from llamaq.plan.arithmetic import fma_dot, round_to_cache
from llamaq.plan.op import F32
from llamaq.plan.operands import StateLayer, Weight
from llamaq.plan.ops.product import linear
from llamaq.plan.plan import Node, Plan
from llamaq.plan.step import Step

__all__ = ["Reference", "Trace"]

Weights: TypeAlias = Mapping[str, "tuple[Format, NDArray[np.uint8]] | F32"]
_Factors: TypeAlias = tuple[F32, F32, np.float32]
Trace: TypeAlias = Callable[[int, Node, "tuple[F32, ...]"], None]


class Reference:
    """Executes a plan: ``forward`` takes a ``Step`` and remembers keys and values of each sequence.

    ``weights`` maps full tensor names to (format, uint8 data of shape (*outer, row_bytes)) or to float32
    arrays. Raises ``ModelError`` for a tensor that is absent or in a format that cannot be decoded.
    """

    def __init__(self, plan: Plan, weights: Weights, *, cache_type: str = "f16") -> None:
        absent = [name for name in plan.tensors if name not in weights]
        if absent:
            raise ModelError(f"expected the data of tensor {absent[0]!r}, got none")
        self._plan = plan
        self._tables = {w: weights[w.name] for w in plan.weights if w.role == "table"}
        self._matrices = {w: _matrices(w, weights[w.name]) for w in plan.weights if w.role in ("matrix", "stack")}
        self._vectors = {w: _decoded(weights[w.name])[..., _rows(w)] for w in plan.weights if w.role == "vector"}
        self._cache_type = cache_type
        self._cache: dict[tuple[int, int], tuple[F32, F32]] = {}
        self._states: dict[tuple[StateLayer, int], F32] = {}
        self._lengths: dict[int, int] = {}
        self._step: Step | None = None

    def forward(self, step: Step, trace: Trace | None = None) -> F32:
        """The plan's result for the wanted rows, in their order: float32 (wanted, out_cols).

        ``trace`` is called after each op with its number, its node and its outputs. Raises ``ValueError``
        for an unknown token id and for a position beyond the end of its sequence.
        """
        for sequence in np.unique(step.sequences).tolist():
            start = step.positions[step.sequences == sequence]
            if start[0] > self._lengths.get(sequence, 0):
                known = self._lengths.get(sequence, 0)
                raise ValueError(f"sequence {sequence} has {known} tokens; the step begins at position {start[0]}")
            if self._plan.states and start[0] not in (0, self._lengths.get(sequence, 0)):
                raise ValueError(f"the state of sequence {sequence} cannot go back to position {start[0]}")
        self._step = step
        slots: dict[int, F32] = {}
        for i, node in enumerate(self._plan.nodes):
            if node.only_marked and (step.marked is None or not step.marked.any()):
                outs = tuple(np.zeros((len(step), cols), np.float32) for cols in node.cols)
            else:
                outs = node.op.reference(self, *(slots[s] for s in node.ins))
                outs = (self._moved(i, outs[0]), *outs[1:])
            slots.update(zip(node.outs, outs, strict=True))
            if trace is not None:
                trace(i, node, outs)
        for sequence, position in zip(step.sequences.tolist(), step.positions.tolist(), strict=True):
            self._lengths[sequence] = position + 1
        return slots[self._plan.out]

    def attach(self, adapter: LowRank, directions: Directions | None = None) -> object:
        """Takes an adapter: what steps name it by."""
        found: dict[object, object] = {}
        for weight, f in adapter.items():
            found[weight] = decode(f.a_format, f.a), decode(f.b_format, f.b), f.scale
        for node, vector in (directions or {}).items():
            found[node] = vector
        return found

    # What ops ask for (``plan.op.Run``).

    @property
    def step(self) -> Step:
        assert self._step is not None
        return self._step

    def multiply(self, weight: Weight, x: F32, expert: int = 0, sequences: NDArray[np.int32] | None = None) -> F32:
        y = linear(self._matrices[weight][expert], x)
        of = self.sequences(len(x)) if sequences is None else sequences
        for rows, (a, b, scale) in self._additions(weight, of):
            if weight.role == "stack":
                a, b = a[expert], b[expert]
            with np.errstate(all="ignore"):
                y[rows] += fma_dot(b, fma_dot(a, x[rows]) * scale)
        return y

    def sequences(self, rows: int) -> NDArray[np.int32]:
        step = self.step
        return step.sequences if rows == len(step) else step.sequences[step.wanted]

    def vector(self, weight: Weight | str) -> F32:
        return self._vectors[Weight(weight, "vector") if isinstance(weight, str) else weight]

    def lookup(self, table: Weight, ids: NDArray[np.int32]) -> F32:
        found = self._tables[table]
        rows = found[1] if isinstance(found, tuple) else found
        if ids.max() >= len(rows):
            raise ValueError(f"number {ids.max()} lies outside the {len(rows)} rows of {table.name!r}")
        y = _decoded((found[0], found[1][ids]) if isinstance(found, tuple) else found[ids])
        for picked, (a, b, scale) in self._additions(table, self.sequences(len(ids))):
            with np.errstate(all="ignore"):
                y[picked] += fma_dot(b, a[ids[picked]] * scale)
        return y

    def remember(self, layer: int, sequence: int, start: int, keys: F32, values: F32) -> tuple[F32, F32]:
        kept = self._cache.get((layer, sequence), (keys[:0], values[:0]))
        new = (round_to_cache(x, self._cache_type) for x in (keys, values))
        both = tuple(np.concatenate([x[:start], y]) for x, y in zip(kept, new, strict=True))
        self._cache[layer, sequence] = both[0], both[1]
        return both[0], both[1]

    def recall(self, layer: int, sequence: int) -> tuple[F32, F32]:
        return self._cache[layer, sequence]

    def state(self, state: StateLayer, sequence: int) -> F32:
        if (self.step.positions[self.step.sequences == sequence] == 0).any():
            self._states[state, sequence] = np.zeros(state.floats, np.float32)
        return self._states[state, sequence]

    def _additions(self, weight: Weight, sequences: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.intp], _Factors]]:
        """Rows, and what an adapter of theirs has of a weight: A, B and the scale of both."""
        for sequence, adapters in self.step.adapters.items():
            rows = np.nonzero(sequences == sequence)[0]
            for adapter, scale in adapters:
                if len(rows) and (found := adapter.get(weight)) is not None:  # type: ignore[attr-defined]
                    a, b, own = found
                    yield rows, (a, b, np.float32(own * scale))

    def _moved(self, node: int, x: F32) -> F32:
        """What a node gives, with the directions of adapters."""
        for sequence, adapters in self.step.adapters.items():
            for adapter, scale in adapters:
                if (direction := adapter.get(node)) is not None:  # type: ignore[attr-defined]
                    rows = (self.sequences(len(x)) == sequence)[:, None]
                    x = np.where(rows, x + (direction * np.float64(scale)).astype(np.float32), x)
        return x


def _decoded(weight: tuple[Format, NDArray[np.uint8]] | F32) -> F32:
    return decode(*weight) if isinstance(weight, tuple) else np.asarray(weight, np.float32)


def _matrices(weight: Weight, data: tuple[Format, NDArray[np.uint8]] | F32) -> list[Unpacked | F32]:
    """A matrix, or those of a stack."""
    rows = _rows(weight)
    if isinstance(data, tuple) and can_unpack(data[0]):
        return [unpack(data[0], matrix[rows]) for matrix in (data[1] if weight.role == "stack" else data[1][None])]
    found = _decoded(data)
    return [matrix[rows] for matrix in (found if weight.role == "stack" else found[None])]


def _rows(weight: Weight) -> slice:
    """Of a tensor those that an op reads."""
    return slice(None) if weight.rows is None else slice(*weight.rows)
