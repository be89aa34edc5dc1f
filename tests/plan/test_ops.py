"""Every attribute of every op reaches both executors: each allowed value gives another result, the same in both."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import Source
from llamaq import _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import LlamaqError, ModelError
from llamaq.plan.graph import Graph, HeadNorm, Norm, Plan, Value
from llamaq.plan.op import Op
from llamaq.plan.ops.act_experts import ActExperts
from llamaq.plan.ops.add_given import AddGiven
from llamaq.plan.ops.attention import Attention
from llamaq.plan.ops.bidirectional_attention import BidirectionalAttention
from llamaq.plan.ops.choose import Choose
from llamaq.plan.ops.concat import Concat
from llamaq.plan.ops.cross_attention import CrossAttention
from llamaq.plan.ops.delta_net import DeltaNet
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.experts import Experts
from llamaq.plan.ops.gate import Gate
from llamaq.plan.ops.given import Given
from llamaq.plan.ops.glu_experts import GluExperts
from llamaq.plan.ops.head_linear import HeadLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.ops.merge_rows import MergeRows
from llamaq.plan.ops.norm import NormRows
from llamaq.plan.ops.positions import Positions
from llamaq.plan.ops.route import Route
from llamaq.plan.ops.short_conv import ShortConv
from llamaq.plan.ops.sigmoid_gate import SigmoidGate
from llamaq.plan.ops.split_heads import SplitHeads
from llamaq.plan.ops.ssm_scan import SsmScan
from llamaq.plan.pictures import picture_of
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from op_cases import ATTENTION, BOTH_WAYS, CASES, NORMS, ONE, ROPES, TRACED, WEIGHTS


def plan_with(op: Op) -> Plan:
    """The op between embeddings and logits."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    x = g.given(16) if isinstance(op, Given) else g.embed("embd", given_cols=48 if isinstance(op, AddGiven) else None)
    if isinstance(op, Attention | BidirectionalAttention):
        ins: tuple[Value, ...] = attention_inputs(g, x, op)
        return g.plan(g.linear(g.select_rows(widened(g, g.emit(op, *ins)[0])), "out"))
    y = g.emit(op, *inputs(g, x, op))[0]
    wide = GluExperts | Route | HeadLinear | Concat | CrossAttention | DeltaNet | SplitHeads | SsmScan | MergeRows
    if isinstance(op, ActExperts | wide):
        y = widened(g, y)
    return g.plan(g.linear(y if op.selects else g.select_rows(y), "out"))


def inputs(g: Graph, x: Value, op: Op) -> tuple[Value, ...]:
    """What the op reads: x first, where it can."""
    if isinstance(op, Embed | Given | Positions):
        return ()
    if isinstance(op, SigmoidGate | Concat | Choose):
        return x, g.linear(x, "a")
    if isinstance(op, CrossAttention):
        return (g.linear(x, g.rows("a", 0, op.heads * op.head_dim)),)
    if isinstance(op, ShortConv):
        return (g.linear(x, "fused" if op.gated else "a"),)
    if isinstance(op, Gate):
        return g.linear(x, "fused"), g.linear(x, "b")
    if isinstance(op, DeltaNet):
        return g.linear(x, "a"), g.linear(x, "k")
    if isinstance(op, SsmScan):
        return g.linear(x, "a"), g.linear(x, "k2")
    if not isinstance(op, Route | ActExperts | GluExperts | Experts):
        return (x,)
    logits = g.linear(x, "router")
    if isinstance(op, Route):
        return (logits,)
    routing = g.route(logits, used=op.used, gating="sigmoid")
    if isinstance(op, Experts):
        return g.glu_experts(x, routing, "t", "u"), routing, x
    return x, routing


def attention_inputs(g: Graph, x: Value, op: Attention | BidirectionalAttention) -> tuple[Value, ...]:
    q = g.linear(x, "a") if op.heads * op.head_dim == 16 else g.linear(x, g.rows("a", 0, op.heads * op.head_dim))
    names = ["k", "v"] if op.kv_heads == 2 else ["k2", "v2"]
    if isinstance(op, Attention) and op.value_dim == 3:
        names[1] = "v3"
    if isinstance(op, Attention) and op.value_of_key:
        del names[1]
    return q, *(g.linear(x, name) for name in names)


def widened(g: Graph, y: Value) -> Value:
    """Sixteen columns of any number."""
    if y.cols == 16:
        return y
    name, shapes = f"wide{y.cols}", g.shapes._shapes
    g.shapes._shapes = {**shapes, f"{name}.weight": (16, y.cols)}
    WEIGHTS.setdefault(f"{name}.weight", np.random.default_rng(y.cols).normal(size=(16, y.cols)).astype(np.float32))
    return g.linear(y, name)


def result(op: Op) -> NDArray[np.float32]:
    """Logits of seven rows, equal bits from both executors."""
    places = np.array([[0, 0, 0, 1, 1, 2, 2], [3, 1, 4, 1, 5, 9, 2], [0, 2, 7, 1, 8, 2, 8]]).T
    plan, step = plan_with(op), Step.of([3, 1, 4, 1, 5, 9, 2], wanted="all", places=places)
    if isinstance(op, MergeRows):
        step.wanted[:] = [True, False, True, True, False, False, False]
    if isinstance(op, Choose):
        step = replace(step, marked=np.arange(7) % 3 == 1)
    if isinstance(op, CrossAttention):
        rows = np.random.default_rng(8).normal(size=(300, 32)).astype(np.float32)
        several = tuple(picture_of(x, layers=2, kv_heads=2, head_dim=4, format="F16") for x in (rows, rows[:40] * 2))
        seen = np.array([[0, 0], [0, 1], [0, 1], [0, 2], [0, 2], [1, 2], [2, 2]], np.int32)
        step = replace(step, pictures=several, seen=seen)
    if isinstance(op, Given):
        step = Step.of([-3, -1, -2], wanted="all", given=WEIGHTS["embd.weight"][4:7])
    if isinstance(op, AddGiven):
        step = Step.of([3, -1, 4, -2], wanted="all", given=WEIGHTS["fused.weight"][:, :2].T)
    want = Reference(plan, WEIGHTS).forward(step)
    got = Engine(plan, Source(WEIGHTS), threads=2).forward(step, KVCache(plan, 32))
    np.testing.assert_array_equal(got, want)
    return want


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.kind)
def test_each_value_of_each_attribute_moves_the_result(kind: Any) -> None:
    usual, others = CASES[kind]
    assert set(others) == {field.name for field in fields(kind)}
    seen = [result(kind(**usual))]
    for name, values in others.items():
        for value in values:
            found = result(kind(**{**usual, name: value}))
            assert not any(np.array_equal(found, known) for known in seen), (name, value)
            seen.append(found)


def test_given_columns() -> None:
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    plan = g.plan(g.linear(g.select_rows(g.given(16, first=3, width=21)), "out"))
    given = np.random.default_rng(2).normal(size=(3, 21)).astype(np.float32)
    step = Step.of([-3, -1, -2], wanted="all", given=given)
    want = Reference(plan, WEIGHTS).forward(step)
    np.testing.assert_allclose(want, given[[2, 0, 1], 3:19] @ WEIGHTS["out.weight"].T, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(Engine(plan, Source(WEIGHTS), threads=2).forward(step, KVCache(plan, 32)), want)


def test_encoders_may_see_the_first_rows_alone() -> None:
    plan = plan_with(BidirectionalAttention(**BOTH_WAYS))
    seen = np.stack([np.zeros(300, np.int32), np.where(np.arange(300) % 7 < 4, 300, 150)], axis=1).astype(np.int32)
    step = Step.of(np.arange(300) % 16, wanted="all", seen=seen)
    want = Reference(plan, WEIGHTS).forward(step)
    np.testing.assert_array_equal(Engine(plan, Source(WEIGHTS), threads=3).forward(step, KVCache(plan, 512)), want)
    for wrong in ([0, 301], [1, 300], [0, 0]):
        bad = Step.of(np.arange(300) % 16, wanted="all", seen=np.tile(np.array(wrong, np.int32), (300, 1)))
        with pytest.raises(ValueError, match="see the first rows"):
            Reference(plan, WEIGHTS).forward(bad)
        with pytest.raises(LlamaqError, match="sees the first rows of its text"):
            Engine(plan, Source(WEIGHTS), threads=1).forward(bad, KVCache(plan, 512))


@pytest.mark.parametrize("op", [Linear(**ONE, scale=0.3, softcap=2.0), NormRows(NORMS[1], 16), NormRows(NORMS[6], 16)])
def test_what_is_added_comes_last(op: Op) -> None:
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    x, add = g.embed("embd"), g.embed("embd2")
    outs = g.plan(g.emit(op, x)[0]), g.plan(g.emit(op, x, add)[0])
    step = Step.of([3, 1, 4], wanted="all")
    alone, together = (Reference(plan, WEIGHTS).forward(step) for plan in outs)
    np.testing.assert_array_equal(together, WEIGHTS["embd2.weight"][[3, 1, 4]] + alone)
    for plan, want in zip(outs, (alone, together), strict=True):
        np.testing.assert_array_equal(Engine(plan, Source(WEIGHTS), threads=2).forward(step, KVCache(plan, 32)), want)


def test_where_in_a_head_the_rope_begins() -> None:
    half = {**ATTENTION, "rope": ROPES[5]}
    found = [result(Attention(**{**half, "rope_offset": offset})) for offset in (0, 1, 2)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(found, 2))


def test_heads_are_normed_apart() -> None:
    cases = ((None, 1, False), (None, 4, False), ("h.weight", 4, False), ("n.weight", 4, True), ("hs.weight", 4, True))
    found = [result(NormRows(Norm(weight, 1e-5), 16, heads, own=own)) for weight, heads, own in cases]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(found, 2))


def test_halves_of_heads() -> None:
    """Both results, each by itself."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    halves = g.split_heads(g.embed("embd"), heads=4, head_dim=2)
    plans = [g.plan(g.linear(g.select_rows(widened(g, half)), "out")) for half in halves]
    step, rows = Step.of([3, 1, 4], wanted="all"), WEIGHTS["embd.weight"][[3, 1, 4]].reshape(3, 4, 2, 2)
    for i, plan in enumerate(plans):
        want = Reference(plan, WEIGHTS).forward(step)
        wide = rows[:, :, i].reshape(3, 8) @ WEIGHTS["wide8.weight"].T @ WEIGHTS["out.weight"].T
        np.testing.assert_allclose(want, wide, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(Engine(plan, Source(WEIGHTS), threads=2).forward(step, KVCache(plan, 32)), want)


def test_a_layer_that_reads_the_cache_of_another() -> None:
    """It is as if it had the same keys and values; windows and norms of its queries are its own."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    x = g.embed("embd")
    k, v = g.linear(x, "k", "v")
    results = []
    for own in (True, False):
        graph = Graph({name: w.shape for name, w in WEIGHTS.items()})
        x = graph.embed("embd")
        q, k, v = graph.linear(x, "a", "k", "v")
        y = graph.attention(q, k, v, **TRACED)
        q, *both = graph.linear(x, "b", "k", "v") if own else (graph.linear(x, "b"),)
        k2, v2 = both or (None, None)
        y2 = graph.attention(q, k2, v2, **{**TRACED, "layer": int(own)}, q_norm=HeadNorm(1e-5))
        plan = graph.plan(graph.linear(graph.select_rows(widened(graph, graph.concat(y, y2))), "out"))
        steps = [Step.of(range(5), wanted="all"), Step.of([7, 8], start=5, wanted="all")]
        reference, engine, cache = Reference(plan, WEIGHTS), Engine(plan, Source(WEIGHTS), threads=2), KVCache(plan, 32)
        want = [reference.forward(step) for step in steps]
        for step, rows in zip(steps, want, strict=True):
            np.testing.assert_array_equal(engine.forward(step, cache), rows)
        results.append(np.concatenate(want))
        assert len(plan.caches[0].layers) == 1 + own
    np.testing.assert_array_equal(*results)


def test_encoders_read_whole_texts() -> None:
    """This holds in any company and on any level; both executors refuse parts of texts."""
    plan = plan_with(BidirectionalAttention(**BOTH_WAYS))
    texts = [Step.of(np.arange(n) % 16, sequence=s, wanted="all") for s, n in ((4, 3), (1, 300), (2, 40), (9, 1))]
    reference, engine, cache = Reference(plan, WEIGHTS), Engine(plan, Source(WEIGHTS), threads=5), KVCache(plan, 512)
    want = [reference.forward(text) for text in texts]
    np.testing.assert_array_equal(engine.forward(Step.join(texts), cache), np.concatenate(want))
    np.testing.assert_array_equal(engine.forward(texts[1], cache), want[1])
    assert not np.array_equal(want[1][0], reference.forward(Step.of([0], wanted="all"))[0])  # it saw what came later
    for step in (Step.of([1, 2], sequence=1, start=300), Step.join([texts[3], Step.of([1], sequence=1, start=2)])):
        with pytest.raises(ValueError, match="an encoder reads whole texts"):
            reference.forward(step)
        with pytest.raises(LlamaqError, match=r"step row \d: an encoder reads whole texts, each from position 0 on"):
            engine.forward(step, cache)


def test_longer_rows_give_their_first_columns_and_further_ones_later() -> None:
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    plan = g.plan(g.select_rows(g.add_given(g.embed("embd", given_cols=40), begin=20, width=40)))
    rows = np.random.default_rng(1).normal(size=(2, 40)).astype(np.float32)
    step = Step.of([3, -2, -1], wanted="all", given=rows)
    want = np.stack([WEIGHTS["embd.weight"][3], rows[1, :16] + rows[1, 20:36], rows[0, :16] + rows[0, 20:36]])
    engine, cache = Engine(plan, Source(WEIGHTS), threads=2), KVCache(plan, 32)
    np.testing.assert_array_equal(Reference(plan, WEIGHTS).forward(step), want)
    np.testing.assert_array_equal(engine.forward(step, cache), want)
    text = Step.of([3, 4], wanted="all")
    np.testing.assert_array_equal(engine.forward(text, cache), WEIGHTS["embd.weight"][3:5])
    with pytest.raises(LlamaqError, match="need 40 columns, got 16"):
        engine.forward(Step.of([-1], given=rows[:, :16]), cache)
    with pytest.raises(ValueError, match="need 40 columns, got 16"):
        Reference(plan, WEIGHTS).forward(Step.of([-1], given=rows[:, :16]))
    for begin, width in ((-1, 40), (25, 40), (0, 8)):
        with pytest.raises(ValueError, match="have no 16 from"):
            g.add_given(g.embed("embd"), begin=begin, width=width)
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    first = g.plan(g.select_rows(g.given(16, width=40)))
    np.testing.assert_array_equal(
        Engine(first, Source(WEIGHTS), threads=2).forward(Step.of([-2], wanted="all", given=rows), KVCache(first, 32)),
        rows[1:, :16],
    )


def test_a_table_of_further_inputs_has_the_row_of_one_token_for_rows_that_are_given() -> None:
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    plan = g.plan(g.select_rows(g.concat(g.embed("embd", 2.0), g.embed("embd2", 2.0, given_as=5))))
    rows = WEIGHTS["a.weight"][:2]
    step = Step.of([3, -2, 4], wanted="all", given=rows)
    table = WEIGHTS["embd2.weight"]
    want = np.concatenate(
        [[2 * WEIGHTS["embd.weight"][3], rows[1], 2 * WEIGHTS["embd.weight"][4]], 2 * table[[3, 5, 4]]], 1
    )
    np.testing.assert_array_equal(Reference(plan, WEIGHTS).forward(step), want)
    np.testing.assert_array_equal(Engine(plan, Source(WEIGHTS), threads=2).forward(step, KVCache(plan, 32)), want)
    with pytest.raises(ModelError, match="expected a row for the token 16"):
        g.embed("embd2", given_as=16)


def test_rows_are_given_in_the_place_of_tokens() -> None:
    """They are neither scaled nor looked up, and stand as they are between tokens."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    plan = g.plan(g.select_rows(g.embed("embd", 2.0)))
    rows = WEIGHTS["a.weight"][:2]
    step = Step.of([3, -2, -1, 4, -2], wanted="all", given=rows)
    want = np.stack([2 * WEIGHTS["embd.weight"][3], rows[1], rows[0], 2 * WEIGHTS["embd.weight"][4], rows[1]])
    engine, cache = Engine(plan, Source(WEIGHTS), threads=2), KVCache(plan, 32)
    np.testing.assert_array_equal(Reference(plan, WEIGHTS).forward(step), want)
    np.testing.assert_array_equal(engine.forward(step, cache), want)
    with pytest.raises(ValueError, match="need 16 columns, got 8"):
        Reference(plan, WEIGHTS).forward(Step.of([-1], given=rows[:, :8]))
    with pytest.raises(LlamaqError, match="need 16 columns, got 8"):
        engine.forward(Step.of([-1], given=rows[:, :8]), cache)
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    plan = g.plan(g.select_rows(g.given(16)))
    engine = Engine(plan, Source(WEIGHTS), threads=2)
    for wrong in (Step.of([1]), Step.of([-1, 1], given=rows), Step.of([-1], given=rows[:, :8])):
        with pytest.raises(ValueError, match="16 floats in the place of all tokens"):
            Reference(plan, WEIGHTS).forward(wrong)
        with pytest.raises(LlamaqError, match=r"16 floats in the place of all tokens|outside the vocabulary of 0"):
            engine.forward(wrong, cache)


def test_merged_rows_are_the_mean_or_stand_behind_each_other() -> None:
    x = WEIGHTS["embd.weight"]
    for mode, want in (("mean", x[[1, 4]] / 2 + x[[2, 5]] / 2), ("join", np.concatenate([x[[1, 4]], x[[2, 5]]], 1))):
        g = Graph({name: w.shape for name, w in WEIGHTS.items()})
        plan = g.plan(g.merge_rows(g.embed("embd"), mode, 2))
        step = Step.of(range(7), wanted="none")
        step.wanted[[1, 4]] = True
        np.testing.assert_allclose(Reference(plan, WEIGHTS).forward(step), want, rtol=1e-6, atol=1e-6)
        apart = Step.join([Step.of([1, 2], wanted="last"), Step.of([1], sequence=1)])
        for wrong in (Step.of([1, 2]), apart):
            with pytest.raises(ValueError, match="needs 1 rows of its sequence behind it"):
                Reference(plan, WEIGHTS).forward(wrong)
            with pytest.raises(LlamaqError, match="needs 1 rows of its sequence behind it"):
                Engine(plan, Source(WEIGHTS), threads=2).forward(wrong, KVCache(plan, 32))


def test_every_op_is_tried() -> None:
    assert set(CASES) == set(Op.__subclasses__())


def test_layers_of_the_cache_are_apart() -> None:
    """Two layers with the same number would read each other's keys."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    x = g.embed("embd")
    for layer, name in ((5, "a"), (2, "b")):
        q, k, v = g.linear(x, name, "k", "v")
        x = g.attention(q, k, v, **{**TRACED, "layer": layer})
    plan, step = g.plan(g.linear(g.select_rows(x), "out")), Step.of(range(7), wanted="all")
    got = Engine(plan, Source(WEIGHTS), threads=1).forward(step, KVCache(plan, 32))
    np.testing.assert_array_equal(got, Reference(plan, WEIGHTS).forward(step))


@pytest.mark.parametrize("level", _core.isas())
@pytest.mark.parametrize("width", [80, 208, 300])
def test_states_that_are_wider_than_what_a_worker_takes_at_once(
    monkeypatch: pytest.MonkeyPatch, level: str, width: int
) -> None:
    """Some columns at a time, also a last part of them, in a prompt, in one that goes on and for single tokens, whose
    states go past the caches where they begin with a line."""
    monkeypatch.setenv("LLAMAQ_ISA", level)
    rng = np.random.default_rng(width)
    shapes: dict[str, tuple[int, ...]] = {
        "embd": (10, 16),
        "a": (width + 16, 16),
        "gates": (2, 16),
        "b": (width, 16),
        "out": (10, width),
    }
    shapes |= {"conv": (width, 3), "falls": (1,), "step": (1,), "norm": (width,)}
    weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["falls.weight"] = -np.abs(weights["falls.weight"])
    g = Graph({name: w.shape for name, w in weights.items()})
    x = g.embed("embd")
    past = g.delta_net(
        g.linear(x, "a"), g.linear(x, "gates"), decay="falls.weight", step="step.weight", norm="norm.weight", eps=1e-5,
        layer=0, heads=1, key_heads=1, key_dim=8, value_dim=width, grouped=False,
    )  # fmt: skip
    near = g.short_conv(g.linear(x, "b", add=past), "conv.weight", layer=0, taps=3, gated=False)
    plan = g.plan(g.linear(g.select_rows(near), "out"))
    reference, engine, cache = Reference(plan, weights), Engine(plan, Source(weights), threads=2), KVCache(plan, 32)
    assert cache.states is not None
    assert cache.states.data.ctypes.data % 64 == 0
    for start, ids in ((0, [3, 1, 4, 1, 5]), (5, [9]), (6, [2, 6, 5]), (9, [3])):
        step = Step.of(ids, start=start, wanted="all")
        np.testing.assert_array_equal(engine.forward(step, cache), reference.forward(step))


def test_an_attribute_that_the_executor_does_not_read_is_an_error() -> None:
    args: Any = ([1, 1], 1, [], [], [], _core.Weights(), _core.ThreadTeam(1), 4)
    with pytest.raises(LlamaqError, match="the op 'select_rows' has no attribute 'speed'"):
        _core.Executor([("select_rows", {"ins": [0], "outs": [1], "cols": 1, "speed": 3})], *args)
    with pytest.raises(LlamaqError, match="needs the attribute 'cols'"):
        _core.Executor([("select_rows", {"ins": [0], "outs": [1]})], *args)
    with pytest.raises(LlamaqError, match="the attribute 'cols' of the op 'select_rows' has another type"):
        _core.Executor([("select_rows", {"ins": [0], "outs": [1], "cols": "1"})], *args)
    with pytest.raises(LlamaqError, match="the executor has no op 'teleport'"):
        _core.Executor([("teleport", {})], *args)
