"""A plan cut between layers, for stages that each hold some of them and pass rows of floats on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from llamaq.errors import ModelError
from llamaq.plan.operands import Weight
from llamaq.plan.ops.embed import Embed
from llamaq.plan.plan import Node, Plan

__all__ = ["INPUT", "cut_plan", "layer_count", "place_in_part"]

INPUT = "stage.input.weight"
"""The table whose rows another beginning reads in the place of those of token ids: no file has it."""


def layer_count(plan: Plan) -> int:
    """How many layers the plan has."""
    return len(plan.layer_ends) - 1


def cut_plan(plan: Plan, first: int, last: int) -> Plan:
    """The part of a plan that computes layers ``first`` to before ``last``, with what comes before the layers where
    ``first`` is 0, and what follows them where ``last`` is their number.

    Another beginning is rows of the table ``INPUT``, by their numbers in the place of token ids: the result of the part
    before. Another end is such rows; a step must want all of them. Each op stays what it is, so that the parts together
    have the bits of the whole. Raises ``ValueError`` for layers that are none, ``ModelError`` for a
    model that does not pass one row of floats from layer to layer.
    """
    begin, end = _nodes_of(plan, first, last)
    nodes = list(plan.nodes[begin:end])
    out, out_cols = plan.out, plan.out_cols
    slot_cols = list(plan.slot_cols)
    if end < len(plan.nodes):
        passed, out_cols = _passed(plan, end)
        out = len(slot_cols)  # the result has a slot of its own
        slot_cols.append(out_cols)
        nodes = _renamed(nodes, passed, out)
    if first:
        slot, cols = _passed(plan, begin)
        nodes.insert(0, Node(Embed(Weight(INPUT, "table"), 1.0), (), (slot,), (cols,)))
    return _numbered(nodes, slot_cols, out, out_cols)


def place_in_part(plan: Plan, part: Plan, first: int, last: int, op: int, slot: int) -> tuple[int, int] | None:
    """The op and slot of ``part``, which is ``cut_plan(plan, first, last)``, that have what ``slot`` has behind op
    ``op`` of the whole; None where another part runs that op."""
    begin, end = _nodes_of(plan, first, last)
    if not begin <= op < end:
        return None
    shift = begin - (first > 0)
    for i in range(op, begin - 1, -1):
        slots = (*plan.nodes[i].outs, *plan.nodes[i].ins)
        if slot in slots:
            own = part.nodes[i - shift]
            return op - shift, (*own.outs, *own.ins)[slots.index(slot)]
    return op - shift, part.nodes[0].outs[0]  # nothing but what is passed comes from before


def _nodes_of(plan: Plan, first: int, last: int) -> tuple[int, int]:
    """The first node of these layers, and the one behind their last."""
    layers = layer_count(plan)
    if not 0 <= first < last <= layers:
        raise ValueError(f"expected layers from 0 to {layers}, got {first} to {last}")
    begin = plan.layer_ends[first] + 1 if first else 0
    return begin, plan.layer_ends[last] + 1 if last < layers else len(plan.nodes)


def _passed(plan: Plan, at: int) -> tuple[int, int]:
    """The slot that what follows node ``at`` reads of what comes before, and the floats of a row there."""
    written: set[int] = set()
    live: set[int] = set()
    for node in plan.nodes[at:]:
        live |= {*node.ins} - written
        written |= {*node.outs}
    if len(live) != 1:
        raise ModelError(
            f"the model cannot be cut before node {at}: {len(live)} values are needed on both sides, where models in "
            "stages pass one; run it in one piece"
        )
    (slot,) = live
    return slot, next(
        cols
        for node in reversed(plan.nodes[:at])
        for written_to, cols in zip(node.outs, node.cols, strict=True)
        if written_to == slot
    )


def _renamed(nodes: Sequence[Node], old: int, new: int) -> list[Node]:
    """The nodes, where the value that stands in slot ``old`` in the end has the slot ``new``."""
    at = max(i for i, node in enumerate(nodes) if old in node.outs)
    found = list(nodes)
    found[at] = replace(found[at], outs=tuple(new if slot == old else slot for slot in found[at].outs))
    for i in range(at + 1, len(found)):
        found[i] = replace(found[i], ins=tuple(new if slot == old else slot for slot in found[i].ins))
    return found


def _numbered(nodes: Sequence[Node], slot_cols: Sequence[int], out: int, out_cols: int) -> Plan:
    """A plan of these nodes, without slots that none of them uses."""
    used = sorted({slot for node in nodes for slot in (*node.ins, *node.outs)})
    number = {slot: i for i, slot in enumerate(used)}

    def own(slots: Iterable[int]) -> tuple[int, ...]:
        return tuple(number[slot] for slot in slots)

    return Plan(
        tuple(replace(node, ins=own(node.ins), outs=own(node.outs)) for node in nodes),
        tuple(slot_cols[slot] for slot in used), number[out], out_cols,
    )  # fmt: skip
