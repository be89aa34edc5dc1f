"""Every attribute of every op reaches both executors: each allowed value gives another result, the same in both."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import Source
from llamaq import _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import LlamaqError
from llamaq.plan.graph import Graph, HeadNorm, Norm, Plan, Temperature, Value
from llamaq.plan.op import Op
from llamaq.plan.operands import Weight
from llamaq.plan.ops.act_linear import ActLinear
from llamaq.plan.ops.attention import Attention
from llamaq.plan.ops.bidirectional_attention import BidirectionalAttention
from llamaq.plan.ops.concat import Concat
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.experts import Experts
from llamaq.plan.ops.glu_experts import GluExperts
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.head_linear import HeadLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.ops.norm import NormRows
from llamaq.plan.ops.route import Route
from llamaq.plan.ops.select_rows import SelectRows
from llamaq.plan.ops.short_conv import ShortConv
from llamaq.plan.ops.sigmoid_gate import SigmoidGate
from llamaq.plan.reference import Reference
from llamaq.plan.rope import Rope
from llamaq.plan.step import Step

RNG = np.random.default_rng(3)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {
        **{f"{name}.weight": (16, 16) for name in ("embd", "embd2", "a", "b", "c", "d", "out")},
        **{f"{name}.weight": (8, 16) for name in ("k", "v")},
        "k2.weight": (4, 16), "v2.weight": (4, 16), "fused.weight": (48, 16), "fused.bias": (48,),
        "n.weight": (16,), "m.weight": (16,), "e.bias": (16,), "f.bias": (16,), "v3.weight": (6, 16),
        **{f"{name}.weight": (8, 16, 16) for name in ("s", "t", "u")}, "fused_s.weight": (8, 48, 16),
        "heads.weight": (2, 5, 6), "heads2.weight": (2, 5, 6), "heads3.weight": (2, 10, 6),
        "s.bias": (8, 16), "t.bias": (8, 16), "fused_s.bias": (8, 48), "router.weight": (8, 16), "p.bias": (8,),
        "q.bias": (8,), "conv.weight": (16, 3), "conv2.weight": (16, 3),
        "h.weight": (4,), "hs.weight": (4, 4), "ks.weight": (2, 4), "sinks.weight": (4,), "sinks2.weight": (4,),
    }.items()
}  # fmt: skip
MATRIX = {name: Weight(f"{name}.weight", "matrix") for name in ("a", "b", "c", "d")}
BIAS = {name: Weight(f"{name}.bias", "vector") for name in ("e", "f")}
STACK = {name: Weight(f"{name}.weight", "stack") for name in ("s", "t", "u")}
BIASES = {name: Weight(f"{name}.bias", "vector") for name in ("s", "t")}
NORMS = [
    *[None, Norm("n.weight", 1e-5), Norm("m.weight", 1e-5), Norm("n.weight", 0.5), Norm(None, 1e-5)],
    *[Norm("n.weight", 1e-5, "layer"), Norm("n.weight", 1e-5, "layer", "e.bias"), Norm(None, 0.5, "layer")],
]
ROPES = [None, Rope((1.0, 0.1)), Rope((1.0, 0.1), 2.0), Rope((1.0, 0.1), 1.0, "neox"), Rope((0.7, 0.1)), Rope((1.0,))]
TRACED: dict[str, Any] = {
    "layer": 0, "heads": 4, "kv_heads": 2, "head_dim": 4, "scale": 0.4, "rope": ROPES[1], "window": 0, "chunk": 0,
}  # fmt: skip
ONE = {"weights": (MATRIX["a"],), "biases": (None,), "norm": None}
ATTENTION: dict[str, Any] = {
    **TRACED, "value_dim": 4, "value_of_key": False, "rope_offset": 0, "q_norm": None, "k_norm": None,
    "temperature": None, "softcap": 0.0, "sinks": None,
}  # fmt: skip
BOTH_WAYS = {name: ATTENTION[name] for name in ("heads", "kv_heads", "head_dim", "scale", "rope")}


def head_norms(own: str) -> list[Any]:
    """All kinds of norms of heads; ``own`` has a vector for each head."""
    h, each = "h.weight", f"{own}.weight"
    return [HeadNorm(1e-5), HeadNorm(0.5), HeadNorm(1e-5, h), HeadNorm(1e-5, each), HeadNorm(1e-5, h, "layer"),
            HeadNorm(1e-5, None, "layer"), HeadNorm(1e-5, each, "layer"), HeadNorm(1e-5, h, "rms", True),
            HeadNorm(1e-5, each, "layer", True)]  # fmt: skip


TWO = {"weights": (MATRIX["a"], MATRIX["b"]), "biases": (None, None), "norm": None}
CASES: dict[type[Op], tuple[dict[str, Any], dict[str, list[Any]]]] = {
    Embed: (
        {"table": Weight("embd.weight", "table"), "scale": 1.0, "types": Weight("embd.weight", "table")},
        {
            "table": [Weight("embd2.weight", "table")],
            "scale": [2.0, 0.5],
            "types": [None, Weight("embd2.weight", "table")],
            "second_after": [1, 5],
            "positions": [Weight("embd2.weight", "table")],
        },
    ),
    NormRows: ({"norm": NORMS[1], "cols": 16}, {"norm": NORMS[2:], "cols": []}),
    ActLinear: (
        {**ONE, "act": "silu"},
        {"weights": [(MATRIX["b"],)], "biases": [(BIAS["e"],)], "norm": NORMS[1:], "act": ["gelu", "gelu_erf"]},
    ),
    SelectRows: ({"cols": 16}, {"cols": []}),
    Linear: (
        ONE,
        {
            "weights": [(MATRIX["b"],), *[(Weight("fused.weight", "matrix", (i, i + 16)),) for i in (0, 16, 32)]],
            "biases": [(BIAS["e"],), (BIAS["f"],), (Weight("fused.bias", "vector", (16, 32)),)],
            "norm": NORMS[1:],
            "scale": [0.5, -3.0],
            "softcap": [0.7, 30.0],
        },
    ),
    GluLinear: (
        TWO,
        {
            "weights": [(MATRIX["b"], MATRIX["a"]), (MATRIX["a"], MATRIX["c"])],
            "biases": [(BIAS["e"], None), (None, BIAS["e"]), (BIAS["f"], BIAS["e"])],
            "norm": NORMS[1:],
            "act": ["gelu", "gelu_erf", "clamped"],
        },
    ),
    Attention: (
        ATTENTION,
        {
            "layer": [],  # it is a name: see the next test
            "heads": [2],
            "kv_heads": [1],
            "head_dim": [],  # it follows from the inputs' width and the heads
            "scale": [0.1],
            "rope": [None, *ROPES[2:]],
            "window": [1, 3],
            "chunk": [2, 5],
            "value_dim": [3],
            "value_of_key": [True],
            "rope_offset": [],  # it needs a rope of half a head: see below
            "q_norm": head_norms("hs"),
            "k_norm": head_norms("ks"),
            "temperature": [Temperature(0.5, 2), Temperature(0.3, 2), Temperature(0.5, 3), Temperature(0.5, 2, 1)],
            "softcap": [0.5, 2.0],
            "sinks": [Weight("sinks.weight", "vector"), Weight("sinks2.weight", "vector")],
        },
    ),
    Route: (
        {
            "experts": 8,
            "used": 2,
            "gating": "softmax",
            "normalize": True,
            "scale": 1.0,
            "selection": None,
            "groups": 1,
            "groups_used": 1,
        },
        {
            "experts": [],  # it follows from the input's width
            "used": [1, 3],
            "gating": ["sigmoid", "softmax_of_chosen"],
            "normalize": [False],
            "scale": [2.0],
            "selection": [Weight("p.bias", "vector"), Weight("q.bias", "vector")],
            "groups": [2, 4],
            "groups_used": [],  # it needs several groups: see the next test
        },
    ),
    GluExperts: (
        {
            "weights": (STACK["s"], STACK["t"]),
            "biases": (None, None),
            "used": 2,
            "act": "silu",
            "weighted_input": False,
        },
        {
            "weights": [
                (STACK["t"], STACK["s"]),
                (STACK["s"], STACK["u"]),
                tuple(Weight("fused_s.weight", "stack", (i, i + 16)) for i in (0, 16)),
            ],
            "biases": [
                (BIASES["s"], None),
                (None, BIASES["s"]),
                (BIASES["t"], BIASES["s"]),
                (Weight("fused_s.bias", "vector", (16, 32)), None),
            ],
            "used": [],  # it follows from the routing's width
            "act": ["gelu", "gelu_erf", "clamped"],
            "weighted_input": [True],
        },
    ),
    Experts: (
        {"weights": (STACK["s"],), "biases": (None,), "used": 2, "weighted": True},
        {
            "weights": [(STACK["t"],), (Weight("fused_s.weight", "stack", (32, 48)),)],
            "biases": [(BIASES["s"],), (BIASES["t"],)],
            "used": [],
            "weighted": [False],
        },
    ),
    HeadLinear: (
        {"weight": Weight("heads.weight", "stack"), "heads": 2, "head_dim": 8, "cols": 6},
        {
            "weight": [Weight("heads2.weight", "stack"), Weight("heads3.weight", "stack", (5, 10))],
            "heads": [],
            "head_dim": [],
            "cols": [],
        },  # the weight's shape
    ),
    Concat: ({"cols": (16, 16)}, {"cols": []}),
    SigmoidGate: (
        {"weight": Weight("n.weight", "vector"), "cols": 16},
        {"weight": [Weight("m.weight", "vector")], "cols": []},
    ),
    ShortConv: (
        {"weight": Weight("conv.weight", "vector"), "layer": 0, "width": 16, "taps": 3},
        {"weight": [Weight("conv2.weight", "vector")], "layer": [], "width": [], "taps": []},  # see the weight
    ),
    BidirectionalAttention: (
        BOTH_WAYS,
        {"heads": [2], "kv_heads": [1], "head_dim": [], "scale": [0.1], "rope": [None, *ROPES[2:]]},
    ),
}
"""The usual fields of each op, and for each field the other values that it may have."""


def plan_with(op: Op) -> Plan:
    """The op between embeddings and logits."""
    g = Graph({name: w.shape for name, w in WEIGHTS.items()})
    x = g.embed("embd")
    if isinstance(op, Attention | BidirectionalAttention):
        ins: tuple[Value, ...] = attention_inputs(g, x, op)
        return g.plan(g.linear(g.select_rows(widened(g, g.emit(op, *ins)[0])), "out"))
    y = g.emit(op, *inputs(g, x, op))[0]
    if isinstance(op, GluExperts | Route | HeadLinear | Concat):
        y = widened(g, y)
    return g.plan(g.linear(y if op.selects else g.select_rows(y), "out"))


def inputs(g: Graph, x: Value, op: Op) -> tuple[Value, ...]:
    """What the op reads: x first, where it can."""
    if isinstance(op, Embed):
        return ()
    if isinstance(op, SigmoidGate | Concat):
        return x, g.linear(x, "a")
    if isinstance(op, ShortConv):
        return (g.linear(x, "fused"),)
    if not isinstance(op, Route | GluExperts | Experts):
        return (x,)
    logits = g.linear(x, "router")
    if isinstance(op, Route):
        return (logits,)
    routing = g.route(logits, used=op.used, gating="sigmoid")
    return (x, routing) if isinstance(op, GluExperts) else (g.glu_experts(x, routing, "t", "u"), routing, x)


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
    plan, step = plan_with(op), Step.of([3, 1, 4, 1, 5, 9, 2], wanted="all")
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
