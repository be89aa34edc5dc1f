"""Trace an architecture function into a plan: a flat list of ops over numbered buffer slots.

The plan is data: the C++ executor runs it, ``llamaq.plan.reference`` runs it in NumPy, ``print(plan)`` shows
it. It holds no token count, no position and no cache length, so one plan serves prompts and single
tokens; those come in the ``Step``. Every op names its fused prologue (a norm of the input) and epilogue
(bias, activation, residual), because a plan has no optimizer that would find them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from llamaq.errors import ModelError

if TYPE_CHECKING:
    from llamaq.plan.rope import Rope

__all__ = ["ACTIVATIONS", "Graph", "KVLayer", "Norm", "Op", "Plan", "Value"]

ACTIVATIONS = ("silu",)


@dataclass(frozen=True)
class Norm:
    """RMS norm of an op's input; ``eps`` is added to the mean square."""

    weight: str
    eps: float

    def __str__(self) -> str:
        return self.weight


@dataclass(frozen=True)
class Value:
    """One activation: ``cols`` floats for each row; ``source`` says in errors where it comes from."""

    id: int
    cols: int
    selected: bool
    source: str


@dataclass(frozen=True)
class Op:
    """One step of a plan. ``outs`` and ``ins`` are slots, ``cols`` the floats a row of each output.

    ``weights`` are full tensor names, as are the names in ``attrs``:

    ============  ==============  ==================================================================
    kind          ins             attrs
    ============  ==============  ==================================================================
    embed                         scale
    rms_norm      x               eps
    linear        x[, residual]   norm (Norm | None), biases (one str | None for each weight)
    glu_linear    x               norm, biases, act; weights are (gate, up)
    attention     q, k, v         layer, heads, kv_heads, head_dim, scale, rope (Rope | None), window, chunk
    select_rows   x
    ============  ==============  ==================================================================
    """

    kind: str
    outs: tuple[int, ...]
    cols: tuple[int, ...]
    ins: tuple[int, ...]
    weights: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def tensors(self) -> Iterable[str]:
        """Full names of all tensors that this op reads."""
        norm: Norm | None = self.attrs.get("norm")
        if norm is not None:
            yield norm.weight
        yield from self.weights
        yield from (bias for bias in self.attrs.get("biases", ()) if bias is not None)


@dataclass(frozen=True)
class KVLayer:
    """What one attention op keeps for each token: ``kv_heads`` keys and values of ``head_dim`` numbers."""

    layer: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Plan:
    """Ops in order, the width of each slot in floats, and the slot and width of the result (the logits).

    No op writes a slot that it reads. A slot is used again once its value is dead; the result has its own.
    """

    ops: tuple[Op, ...]
    slot_cols: tuple[int, ...]
    out: int
    out_cols: int
    kv_layers: tuple[KVLayer, ...]

    def weights(self) -> tuple[str, ...]:
        """Full names of the tensors that the plan reads, each once, in order of first use."""
        return tuple(dict.fromkeys(name for op in self.ops for name in op.tensors()))

    def scratch_bytes(self, rows: int) -> int:
        """Bytes of all slots for a step of ``rows`` tokens; the result's memory is the caller's."""
        return 4 * rows * (sum(self.slot_cols) - self.slot_cols[self.out])

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, most KV heads of a layer and head dimension of the cache."""
        heads = max((layer.kv_heads for layer in self.kv_layers), default=1)
        head_dim = max((layer.head_dim for layer in self.kv_layers), default=1)
        return max((layer.layer for layer in self.kv_layers), default=0) + 1, heads, head_dim

    def __str__(self) -> str:
        return "\n".join(_line(i, op) for i, op in enumerate(self.ops))


def _line(index: int, op: Op) -> str:
    outs = " ".join(f"s{s}[{c}]" for s, c in zip(op.outs, op.cols, strict=True))
    ins = " ".join(f"s{s}" for s in op.ins)
    attrs = " ".join(f"{k}={v}" for k, v in op.attrs.items() if k != "biases" and v is not None)
    biases = " ".join(f"+{b}" for b in op.attrs.get("biases", ()) if b is not None)
    parts = (" ".join(op.weights), biases, attrs)
    return f"{index:4d} {outs:24s} = {op.kind:11s} {ins:9s} {' '.join(p for p in parts if p)}".rstrip()


@dataclass(frozen=True)
class _Traced:
    kind: str
    outs: tuple[Value, ...]
    ins: tuple[Value, ...]
    weights: tuple[str, ...]
    attrs: Mapping[str, Any]


class Graph:
    """Records the ops that an architecture function calls, and checks every shape on the way.

    ``shapes`` maps full tensor names to (rows, cols) or (n,), as in ``TensorInfo.shape``. Weights are
    named without ".weight"; the bias of a linear weight is added where the file has ``name.bias``.
    Every method raises ``ModelError`` for a tensor that is missing or does not fit.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._ops: list[_Traced] = []
        self._layers: set[int] = set()  # that have their attention
        self._values = 0

    def has(self, weight: str) -> bool:
        """Whether the file has the tensor ``weight`` + ".weight"."""
        return f"{weight}.weight" in self._shapes

    def embed(self, weight: str, scale: float = 1.0) -> Value:
        """Row of ``weight`` for each token, times ``scale``."""
        tensor, (_, cols) = self._matrix(weight)
        return self._emit("embed", (cols,), (), (tensor,), scale=scale)[0]

    def rms_norm(self, x: Value, weight: str, eps: float) -> Value:
        """RMS norm of each row, times ``weight``."""
        norm = self._norm(Norm(weight, eps), x)
        return self._emit("rms_norm", (x.cols,), (x,), (norm.weight,), eps=eps)[0]

    @overload
    def linear(self, x: Value, weight: str, /, *, norm: Norm | None = None, add: Value | None = None) -> Value: ...

    @overload
    def linear(self, x: Value, /, *weights: str, norm: Norm | None = None) -> tuple[Value, ...]: ...

    def linear(
        self, x: Value, /, *weights: str, norm: Norm | None = None, add: Value | None = None
    ) -> Value | tuple[Value, ...]:
        """``norm(x) @ W.T`` (+ bias) (+ ``add``) for each weight; several share one norm and quantization."""
        if not weights or (add is not None and len(weights) != 1):
            raise ValueError("linear takes at least one weight, and exactly one where something is added")
        full = None if norm is None else self._norm(norm, x)
        tensors, cols, biases = self._projections(x, weights)
        ins: tuple[Value, ...] = (x,)
        if add is not None:
            if (add.cols, add.selected) != (cols[0], x.selected):
                raise ModelError(
                    f"tensor {tensors[0]!r}: expected {add.cols} rows to match the residual "
                    f"({add.source}), got {cols[0]}"
                )
            ins = (x, add)
        outs = self._emit("linear", cols, ins, tensors, norm=full, biases=biases)
        return outs[0] if len(outs) == 1 else outs

    def glu_linear(self, x: Value, gate: str, up: str, act: str = "silu", norm: Norm | None = None) -> Value:
        """``act(norm(x) @ gate.T) * (norm(x) @ up.T)``, with the biases of both."""
        if act not in ACTIVATIONS:
            raise ValueError(f"activation {act!r} is unknown; known are {', '.join(ACTIVATIONS)}")
        full = None if norm is None else self._norm(norm, x)
        tensors, cols, biases = self._projections(x, (gate, up))
        if cols[0] != cols[1]:
            raise ModelError(f"tensor {tensors[1]!r}: expected {cols[0]} rows as in {tensors[0]!r}, got {cols[1]}")
        return self._emit("glu_linear", cols[:1], (x,), tensors, norm=full, biases=biases, act=act)[0]

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        *,
        layer: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        rope: Rope | None,
        window: int = 0,
        chunk: int = 0,
    ) -> Value:
        """Causal attention of each row over its sequence's cache, to which the rows' k and v go first.

        A row sees the last ``window`` tokens, itself included, of its own ``chunk`` of positions (0: all).
        """
        for value, count in ((q, heads), (k, kv_heads), (v, kv_heads)):
            if value.cols != count * head_dim:
                raise ModelError(
                    f"tensor {value.source!r}: expected {count * head_dim} rows "
                    f"({count} heads of {head_dim}), got {value.cols}"
                )
        if heads % kv_heads or (rope is not None and rope.dims > head_dim):
            raise ValueError("heads must be a multiple of kv_heads, and rope must not exceed head_dim")
        if window < 0 or chunk < 0:
            raise ValueError(f"window ({window}) and chunk ({chunk}) count tokens; 0 sets no limit")
        if q.selected or layer in self._layers:
            raise ValueError("attention comes before select_rows and once for each layer")
        self._layers.add(layer)
        return self._emit(
            "attention", (q.cols,), (q, k, v), layer=layer, heads=heads, kv_heads=kv_heads,
            head_dim=head_dim, scale=scale, rope=rope, window=window, chunk=chunk,
        )[0]  # fmt: skip

    def select_rows(self, x: Value) -> Value:
        """Only the rows whose logits are wanted go on."""
        return self._emit("select_rows", (x.cols,), (x,), selected=True)[0]

    def plan(self, out: Value) -> Plan:
        """The plan that ends with ``out``."""
        slot, slot_cols = _assign_slots(self._ops, out)
        ops = tuple(
            Op(
                op.kind,
                tuple(slot[v.id] for v in op.outs),
                tuple(v.cols for v in op.outs),
                tuple(slot[v.id] for v in op.ins),
                op.weights,
                MappingProxyType(dict(op.attrs)),
            )
            for op in self._ops
        )
        attention = [op.attrs for op in self._ops if op.kind == "attention"]
        layers = tuple(KVLayer(a["layer"], a["kv_heads"], a["head_dim"]) for a in attention)
        return Plan(ops, tuple(slot_cols), slot[out.id], out.cols, layers)

    def _emit(
        self,
        kind: str,
        cols: tuple[int, ...],
        ins: tuple[Value, ...],
        weights: tuple[str, ...] = (),
        selected: bool = False,
        **attrs: Any,
    ) -> tuple[Value, ...]:
        selected = selected or any(v.selected for v in ins)
        sources = weights if len(weights) == len(cols) else (kind,) * len(cols)
        outs = tuple(
            Value(self._values + i, c, selected, source)
            for i, (c, source) in enumerate(zip(cols, sources, strict=True))
        )
        self._values += len(outs)
        self._ops.append(_Traced(kind, outs, ins, weights, attrs))
        return outs

    def _shape(self, tensor: str) -> tuple[int, ...]:
        shape = self._shapes.get(tensor)
        if shape is None:
            near = difflib.get_close_matches(tensor, self._shapes, n=3) or ["none"]
            raise ModelError(f"the file has no tensor {tensor!r}; the nearest names are {', '.join(near)}")
        return shape

    def _matrix(self, weight: str) -> tuple[str, tuple[int, int]]:
        tensor = f"{weight}.weight"
        shape = self._shape(tensor)
        if len(shape) != 2:
            raise ModelError(f"tensor {tensor!r}: expected two dimensions, got {shape}")
        return tensor, (shape[0], shape[1])

    def _projections(
        self, x: Value, weights: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str | None, ...]]:
        tensors, rows, biases = [], [], []
        for weight in weights:
            tensor, (n, cols) = self._matrix(weight)
            if cols != x.cols:
                raise ModelError(f"tensor {tensor!r}: expected {x.cols} columns ({x.source}), got {cols}")
            bias = f"{weight}.bias"
            if bias in self._shapes:
                self._vector(bias, n)
            tensors.append(tensor)
            rows.append(n)
            biases.append(bias if bias in self._shapes else None)
        return tuple(tensors), tuple(rows), tuple(biases)

    def _norm(self, norm: Norm, x: Value) -> Norm:
        tensor = f"{norm.weight}.weight"
        self._vector(tensor, x.cols)
        return Norm(tensor, norm.eps)

    def _vector(self, tensor: str, n: int) -> None:
        shape = self._shape(tensor)
        if shape != (n,):
            raise ModelError(f"tensor {tensor!r}: expected shape ({n},), got {shape}")


def _assign_slots(ops: list[_Traced], out: Value) -> tuple[dict[int, int], list[int]]:
    """A slot for each value: the narrowest free one that is wide enough, else a new one (``out``: always)."""
    last_use = {v.id: i for i, op in enumerate(ops) for v in op.ins} | {out.id: len(ops)}
    slot: dict[int, int] = {}
    slot_cols: list[int] = []
    free: list[int] = []
    for i, op in enumerate(ops):
        for v in op.outs:
            wide = [] if v is out else [s for s in free if slot_cols[s] >= v.cols]
            if wide:
                slot[v.id] = min(wide, key=lambda s: slot_cols[s])
                free.remove(slot[v.id])
            else:
                slot[v.id] = len(slot_cols)
                slot_cols.append(v.cols)
        dead = {v.id for v in op.ins if last_use[v.id] == i} | {v.id for v in op.outs if v.id not in last_use}
        free.extend(sorted(slot[v] for v in dead))
    return slot, slot_cols
