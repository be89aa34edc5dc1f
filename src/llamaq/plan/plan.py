"""A plan: a flat list of ops over numbered buffer slots, the result of tracing an architecture.

The plan is data: the C++ executor runs it, ``llamaq.plan.reference`` runs it in NumPy, ``print(plan)`` shows it. It
holds no token count, no position and no cache length, so one plan serves prompts and single tokens; those come in the
``Step``. Every op names its fused prologue (a norm of the input) and epilogue (bias, activation, residual), because a
plan has no optimizer that would find them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from llamaq.plan.op import Op
from llamaq.plan.operands import CacheLayer, StateLayer, Value, Weight
from llamaq.plan.tracer import Traced

__all__ = ["CacheGroup", "Node", "Plan", "make_plan"]


@dataclass(frozen=True)
class Node:
    """An op in its place: the slots that it reads and writes, the floats a row of each result, the layer that it is
    part of (None: before, between or after layers), and whether it is left out where a step marks no row."""

    op: Op
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    cols: tuple[int, ...]
    layer: int | None = None
    only_marked: bool = False


@dataclass(frozen=True)
class CacheGroup:
    """Layers that need a token for equally long, as ``CacheLayer`` says: they share a page table."""

    window: int
    chunk: int
    layers: tuple[CacheLayer, ...]


@dataclass(frozen=True)
class Plan:
    """Ops in order, the width of each slot in floats, and the slot and width of the result (logits; of an encoder
    states, or scores).

    No op writes a slot that it reads. A slot is used again once its value is dead; the result has its own.
    """

    nodes: tuple[Node, ...]
    slot_cols: tuple[int, ...]
    out: int
    out_cols: int

    @cached_property
    def caches(self) -> tuple[CacheGroup, ...]:
        """The cache's groups, in the order of their first layers."""
        groups: dict[tuple[int, int], list[CacheLayer]] = {}
        for node in self.nodes:
            if (kept := node.op.keeps) is not None:
                groups.setdefault((kept.window, kept.chunk), []).append(kept)
        return tuple(CacheGroup(window, chunk, tuple(layers)) for (window, chunk), layers in groups.items())

    @cached_property
    def states(self) -> tuple[StateLayer, ...]:
        """What layers keep of a sequence beside the cache."""
        return tuple(state for node in self.nodes if (state := node.op.remembers) is not None)

    @cached_property
    def encodes(self) -> bool:
        """Whether it is an encoder: it reads whole texts, and its result says nothing of a next token."""
        return any(node.op.whole_texts for node in self.nodes)

    @cached_property
    def selects(self) -> bool:
        """Whether the result has the rows alone that a step wants; otherwise it must want all."""
        return any(node.op.selects for node in self.nodes)

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """What the plan reads of the file, each once, in order of first use."""
        return tuple(dict.fromkeys(weight for node in self.nodes for weight in node.op.reads()))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Full names of the tensors that the plan reads, each once, in order of first use."""
        return tuple(dict.fromkeys(weight.name for weight in self.weights))

    @cached_property
    def layer_ends(self) -> tuple[int, ...]:
        """Numbers of the nodes behind which the hidden states stand: of the embeddings, then of each layer."""
        ends = {node.layer: i for i, node in enumerate(self.nodes) if node.layer is not None}
        first = next((i for i, node in enumerate(self.nodes) if node.layer is not None), len(self.nodes))
        return (first - 1, *(ends[layer] for layer in sorted(ends)))

    @property
    def last_states(self) -> tuple[int, int, int]:
        """Where the last states of all rows stand, of which those that are wanted become logits: behind which node, in
        which slot, and how many floats of a row."""
        at = next(i for i, node in enumerate(self.nodes) if node.op.selects)
        return at - 1, self.nodes[at].ins[0], self.nodes[at].cols[0]

    def scratch_bytes(self, rows: int) -> int:
        """Bytes of all slots for a step of ``rows`` tokens, of normed and quantized copies beside them, and of what the
        op that takes most needs besides; the result's memory is the caller's."""
        besides = max(node.op.scratch_cols(node.cols) for node in self.nodes)
        return 4 * rows * (2 * (sum(self.slot_cols) - self.slot_cols[self.out]) + besides)

    def __str__(self) -> str:
        return "\n".join(_line(i, node) for i, node in enumerate(self.nodes))


def _line(index: int, node: Node) -> str:
    outs = " ".join(f"s{s}[{c}]" for s, c in zip(node.outs, node.cols, strict=True))
    ins = " ".join(f"s{s}" for s in node.ins)
    return f"{index:4d} {outs:24s} = {node.op.kind:11s} {ins:9s} {node.op}".rstrip()


def make_plan(traced: Sequence[Traced], out: Value) -> Plan:
    """The plan that ends with ``out``."""
    slot, slot_cols = _assign_slots(traced, out)
    nodes = tuple(
        Node(
            t.op,
            tuple(slot[v.id] for v in t.ins),
            tuple(slot[v.id] for v in t.outs),
            tuple(v.cols for v in t.outs),
            t.layer,
            t.only_marked,
        )
        for t in traced
    )
    return Plan(nodes, tuple(slot_cols), slot[out.id], out.cols)


def _assign_slots(traced: Sequence[Traced], out: Value) -> tuple[dict[int, int], list[int]]:
    """A slot for each value: the narrowest free one that is wide enough, else a new one (``out``: always)."""
    last_use = {v.id: i for i, t in enumerate(traced) for v in t.ins} | {out.id: len(traced)}
    slot: dict[int, int] = {}
    slot_cols: list[int] = []
    free: list[int] = []
    for i, t in enumerate(traced):
        for v in t.outs:
            wide = [] if v is out else [s for s in free if slot_cols[s] >= v.cols]
            if wide:
                slot[v.id] = min(wide, key=lambda s: slot_cols[s])
                free.remove(slot[v.id])
            else:
                slot[v.id] = len(slot_cols)
                slot_cols.append(v.cols)
        dead = {v.id for v in t.ins if last_use[v.id] == i} | {v.id for v in t.outs if v.id not in last_use}
        free.extend(sorted(slot[v] for v in dead))
    return slot, slot_cols
