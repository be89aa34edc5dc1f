"""Tracing: what a plan says, how slots are shared, and which error names what."""

from __future__ import annotations

import pytest

from llamaq.errors import ModelError
from llamaq.plan.graph import Graph, Norm
from llamaq.plan.operands import CacheLayer, Weight
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.plan import CacheGroup
from llamaq.plan.rope import Rope
from tiny_llama import plan_of, tiny_llama

SHAPES = {
    "emb.weight": (10, 8),
    "q.weight": (8, 8),
    "q.bias": (8,),
    "k.weight": (4, 8),
    "v.weight": (4, 8),
    "o.weight": (8, 8),
    "gate.weight": (12, 8),
    "up.weight": (12, 8),
    "up.bias": (12,),
    "down.weight": (8, 12),
    "norm.weight": (8,),
    "wide.weight": (13, 8),
    "stack.weight": (2, 8, 8),
}
KV = {"layer": 0, "heads": 2, "kv_heads": 1, "head_dim": 4, "scale": 0.5, "rope": None}


def test_plan_of_llama_has_five_ops_a_layer() -> None:
    hp, plan = plan_of(*tiny_llama(layers=3))
    layer = ["linear", "attention", "linear", "glu_linear", "linear"]
    assert [node.op.kind for node in plan.nodes] == ["embed", *layer * 3, "select_rows", "linear"]
    assert plan.out_cols == 50
    assert plan.slot_cols[plan.out] >= 50
    assert plan.caches == (CacheGroup(0, 0, tuple(CacheLayer(i, 2, 16, 16) for i in range(3))),)
    assert [node.layer for node in plan.nodes] == [None, *[0] * 5, *[1] * 5, *[2] * 5, None, None]
    assert plan.layer_ends == (0, 5, 10, 15)
    names = [f"blk.0.attn_{x}.weight" for x in "qkv"]
    norm = Norm("blk.0.attn_norm.weight", hp.eps)
    assert plan.nodes[1].op == Linear(tuple(Weight(name, "matrix") for name in names), (None,) * 3, norm)
    assert plan.weights[-2:] == (Weight("output.weight", "matrix"), Weight("output_norm.weight", "vector"))


def test_weights_lists_every_tensor_once() -> None:
    for tied in (True, False):
        metadata, tensors = tiny_llama(biases=True, tied=tied)
        _, plan = plan_of(metadata, tensors)
        assert sorted(plan.tensors) == sorted(tensors)


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_slots_are_shared_but_never_within_an_op(layers: int) -> None:
    _, plan = plan_of(*tiny_llama(layers=layers))
    assert len(plan.slot_cols) <= 8
    for op in plan.nodes:
        assert not set(op.outs) & set(op.ins)
        assert len(set(op.outs)) == len(op.outs)
        assert all(plan.slot_cols[s] >= c for s, c in zip(op.outs, op.cols, strict=True))
    assert plan.scratch_bytes(3) == 12 * 2 * (sum(plan.slot_cols) - plan.out_cols)


def test_a_slot_is_not_reused_while_its_value_lives() -> None:
    g = Graph(SHAPES)
    x = g.embed("emb")
    first = g.linear(x, "q")
    g.linear(x, "o")  # nobody reads it
    second = g.linear(x, "o")
    plan = g.plan(g.linear(second, "q", add=first))
    first_slot = plan.nodes[1].outs[0]
    assert all(first_slot not in node.outs for node in plan.nodes[2:])
    assert plan.nodes[2].outs == plan.nodes[3].outs  # the unread value's slot is free at once
    assert plan.nodes[4].ins == (plan.nodes[3].outs[0], first_slot)


def test_biases_are_found_by_name() -> None:
    g = Graph(SHAPES)
    x = g.embed("emb", scale=2.0)
    q, k, v = g.linear(x, "q", "k", "v", norm=Norm("norm", 1e-6))
    x = g.linear(g.attention(q, k, v, **KV), "o", add=x)
    plan = g.plan(g.glu_linear(x, "gate", "up"))
    read, gated, embedded = plan.nodes[1].op, plan.nodes[4].op, plan.nodes[0].op
    assert isinstance(read, Linear)
    assert read.biases == (Weight("q.bias", "vector"), None, None)
    assert isinstance(gated, GluLinear)
    assert gated.biases == (None, Weight("up.bias", "vector"))
    assert isinstance(embedded, Embed)
    assert embedded.scale == 2.0
    assert plan.tensors[:4] == ("emb.weight", "q.weight", "k.weight", "v.weight")


def test_str_shows_one_op_a_line() -> None:
    g = Graph(SHAPES)
    x = g.embed("emb")
    plan = g.plan(g.select_rows(g.linear(x, "q", norm=Norm("norm", 1e-6), add=x)))
    lines = str(plan).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [
        "1",
        "s1[8]",
        "=",
        "linear",
        "s0",
        "s0",
        "q.weight",
        "+q.bias",
        "norm=norm.weight",
    ]
    with pytest.raises(AttributeError):
        setattr(plan.nodes[0].op, "scale", 3.0)  # noqa: B010


def test_errors_name_the_tensor_and_both_shapes() -> None:
    g = Graph(SHAPES)
    x = g.embed("emb")
    wide = g.linear(x, "wide")
    q, k, v = g.linear(x, "q", "k", "v")
    cases = [
        (lambda: g.linear(x, "blk.qq"), "no tensor 'blk.qq.weight'.*q.weight"),
        (
            lambda: g.linear(x, "entirely_else"),
            "no tensor 'entirely_else.weight'; the nearest names are none",
        ),
        (lambda: g.linear(x, "down"), "'down.weight': expected 8 columns .*got 12"),
        (lambda: g.linear(x, "stack"), r"'stack.weight': expected two dimensions, got \(2, 8, 8\)"),
        (lambda: g.linear(x, "q", norm=Norm("norm2", 0.1)), "no tensor 'norm2.weight'.*norm.weight"),
        (
            lambda: g.linear(wide, "q", norm=Norm("norm", 0.1)),
            r"'norm.weight': expected shape \(13,\), got \(8,\)",
        ),
        (lambda: g.linear(x, "wide", add=x), "'wide.weight': expected 8 rows .*got 13"),
        (lambda: g.glu_linear(x, "gate", "wide"), "'wide.weight': expected 12 rows .*got 13"),
        (lambda: g.norm(x, Norm("q", 0.1)), r"'q.weight': expected shape \(8,\), got \(8, 8\)"),
        (
            lambda: g.attention(q, k, v, **{**KV, "heads": 4}),
            r"'q.weight': expected 16 rows \(4 heads of 4\), got 8",
        ),
        (lambda: g.attention(q, q, v, **KV), "'q.weight': expected 4 rows"),
        (
            lambda: Graph({**SHAPES, "q.bias": (3,)}).linear(x, "q"),
            r"'q.bias': expected shape \(8,\), got \(3,\)",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ModelError, match=message):
            call()


def test_misuse_is_a_value_error() -> None:
    g = Graph(SHAPES)
    x = g.embed("emb")
    q, k, v = g.linear(x, "q", "k", "v")
    g.attention(q, k, v, **KV)
    calls = [
        lambda: g.attention(q, k, v, **KV),  # the layer comes twice
        lambda: g.attention(q, k, v, **{**KV, "layer": 1, "rope": Rope((1.0, 0.5, 0.1))}),  # it turns six of four dims
        lambda: g.linear(x),
        lambda: g.linear(x, "q", "k", add=x),
        lambda: g.attention(q, k, v, **{**KV, "layer": 2, "window": -1}),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(ModelError, match="residual"):
        g.linear(g.select_rows(x), "o", add=x)
