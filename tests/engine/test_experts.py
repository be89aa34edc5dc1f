"""Mixtures of experts: each row's bits are those that it has alone, whatever reads beside it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters import factors_of
from engines import VOCABULARY, Source, all_logits, engine_of, tokens_of
from llamaq import _core
from llamaq.engine.engine import Engine, packed_bytes
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.memory import memory_need
from llamaq.errors import LlamaqError, ModelError
from llamaq.formats import encode, format_by_name
from llamaq.plan.graph import Graph, Norm, Plan
from llamaq.plan.operands import Weight
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step

EXPERTS, INNER, WIDTH = 8, 96, 64
ISAS = _core.isas()


def mixture(
    *, format: str = "F32", fused: bool = False, biases: bool = False, weighted_input: bool = False, used: int = 2,
    act: Any = "silu", shared: bool = False, router: float = 1.0, gated: bool = True, **routing: Any,
) -> tuple[Plan, dict[str, Any]]:  # fmt: skip
    """Embedding, a mixture as the arguments say, logits; the router's weights are multiplied by ``router``."""
    rng = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {
        "embd": (VOCABULARY, WIDTH), "norm": (WIDTH,), "router": (EXPERTS, WIDTH), "up": (EXPERTS, INNER, WIDTH),
        "gate": (EXPERTS, INNER, WIDTH), "down": (EXPERTS, WIDTH, INNER), "both": (EXPERTS, 2 * INNER, WIDTH),
        "shared_gate": (INNER, WIDTH), "shared_up": (INNER, WIDTH), "shared_down": (WIDTH, INNER), "sigmoid": (WIDTH,),
        "out": (20, WIDTH),
    }  # fmt: skip
    w: dict[str, Any] = {
        f"{name}.weight": (1.5 * rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in shapes.items()
    }
    w["norm.weight"] += np.float32(1)
    w["router.weight"] *= np.float32(router)
    w["both.weight"] = np.concatenate([w["gate.weight"], w["up.weight"]], axis=1)
    if biases:
        w |= {f"{n}.bias": rng.normal(size=(EXPERTS, shapes[n][1])).astype(np.float32) for n in ("gate", "up", "down")}
        w["both.bias"] = np.concatenate([w["gate.bias"], w["up.bias"]], axis=1)
    w["selection.bias"] = rng.normal(size=EXPERTS).astype(np.float32)
    g = Graph({name: x.shape for name, x in w.items()})
    x = g.embed("embd")
    n = g.norm(x, Norm("norm", 1e-5))
    r = g.route(g.linear(n, "router"), used=used, **routing)
    gate, up = (g.rows("both", 0, INNER), g.rows("both", INNER, 2 * INNER)) if fused else ("gate", "up")
    h = (
        g.glu_experts(n, r, gate, up, act=act, weighted_input=weighted_input)
        if gated else g.act_experts(n, r, up, act=act)
    )  # fmt: skip
    y = g.experts(h, r, "down", add=x, weighted=not weighted_input)
    if shared:
        h = g.sigmoid_gate(g.glu_linear(n, "shared_gate", "shared_up"), n, "sigmoid")
        y = g.linear(h, "shared_down", add=y)
    plan = g.plan(g.linear(g.select_rows(y), "out"))
    if format != "F32":
        fmt = format_by_name(format)
        w |= {f"{n}.weight": (fmt, encode(fmt, w[f"{n}.weight"])) for n in ("gate", "up", "down", "both")}
    return plan, w


def mixture_with_adapters(variant: dict[str, Any]) -> tuple[Plan, dict[str, Any], list[Any]]:
    """And factors of its stacks, matrices and table, of two adapters."""
    plan, w = mixture(**variant)
    shapes = {name: x.shape for name, x in mixture(**{**variant, "format": "F32"})[1].items()}
    return (
        plan,
        w,
        [factors_of(plan, shapes, 5, seed=1, scale=0.75), factors_of(plan, shapes, 16, seed=2, format="F16")],
    )


VARIANTS: list[dict[str, Any]] = [
    {"format": "F32"}, {"format": "Q4_0"}, {"format": "Q8_0", "used": 4}, {"format": "F16", "biases": True},
    {"format": "Q8_0", "fused": True, "biases": True}, {"used": 1, "gating": "sigmoid", "weighted_input": True},
    {"format": "Q4_0", "used": 1, "gating": "sigmoid", "normalize": False, "weighted_input": True, "shared": True},
    {"gating": "softmax_of_chosen", "normalize": False, "router": 50.0, "act": "clamped", "biases": True},
    {"gating": "sigmoid", "scale": 2.5, "selection": "selection.bias", "groups": 4, "groups_used": 2},
    {"groups": 2, "groups_used": 1, "normalize": False, "scale": 16.0, "used": EXPERTS // 2},
    {"format": "Q4_0", "gated": False, "act": "relu2", "gating": "sigmoid"},
    {"gated": False, "act": "relu2", "biases": True, "fused": True, "used": 3},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_levels_threads_and_chunks_give_the_bits_of_the_reference(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, weights = mixture(**variant)
    tokens = tokens_of(1, 23)
    want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
    assert np.isfinite(want).all()
    for isa, threads in itertools.product({ISAS[0], ISAS[-1]}, (1, 2, 5)):
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads)
        for sizes in ([23], [1] * 23, [4, 19], [17, 2, 4]):
            np.testing.assert_array_equal(all_logits(engine, KVCache(plan, 64), tokens, sizes), want)
        engine.close()


@pytest.mark.parametrize("isa", ISAS)
def test_every_level_has_the_bits_of_many_rows(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a slab for one expert, and experts that no row goes to."""
    plan, weights = mixture(format="Q4_0", router=30.0, biases=True)
    tokens = np.where(np.arange(300) < 280, 7, tokens_of(2, 300))
    routed: list[NDArray[np.float32]] = []

    def watch(index: int, node: Any, outs: tuple[NDArray[np.float32], ...]) -> None:
        if node.op.kind == "route":
            routed.append(outs[0])

    want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"), trace=watch)
    counts = np.bincount(routed[0][:, :2].astype(int).ravel(), minlength=EXPERTS)
    assert counts.max() > 256
    assert counts.min() < 16
    engine = engine_of(plan, weights, isa, monkeypatch)
    got = engine.forward(Step.of(tokens, wanted="all"), KVCache(plan, 320))
    np.testing.assert_array_equal(got, want)
    engine.close()


def test_rows_in_company_and_unpacked_weights_have_the_same_bits() -> None:
    plan, weights = mixture(format="Q4_0", fused=True, shared=True)
    parts = [tokens_of(seed, n) for seed, n in ((1, 9), (2, 1), (3, 30))]
    alone = [Reference(plan, weights).forward(Step.of(tokens, wanted="all")) for tokens in parts]
    for pack in (True, False):
        source = Source(weights)
        source.mapped = not pack
        engine = Engine(plan, source, threads=2, pack=pack)
        step = Step.join([Step.of(tokens, sequence=i, wanted="all") for i, tokens in enumerate(parts)])
        np.testing.assert_array_equal(engine.forward(step, KVCache(plan, 128)), np.concatenate(alone))
        engine.close()


@pytest.mark.parametrize(
    ("logits", "want"),
    [
        ([0, 0, 0, 0], [0, 1, 2]), ([1, 2, 2, 1], [1, 2, 0]), ([5, -np.inf, -np.inf, -np.inf], [0, 1, 2]),
        ([np.nan, 1, np.nan, 2], [3, 1, 0]), ([-0.0, 0.0, -1, 0.0], [0, 1, 3]), ([np.nan] * 4, [0, 1, 2]),
        ([1, np.inf, 3, np.inf], [1, 3, 2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("groups", [1, 2])
def test_equal_logits_go_to_the_lower_number(logits: list[float], want: list[int], groups: int) -> None:
    """Both executors agree, also about what is no number. A product with the unit matrix gives the logits."""
    table = np.array([logits], np.float32)
    weights = {"table.weight": table, "out.weight": np.eye(6, dtype=np.float32), "zero.bias": np.zeros(4, np.float32)}
    g = Graph({name: x.shape for name, x in weights.items()})
    selection = None if groups == 1 else "zero.bias"
    r = g.route(g.embed("table"), used=3, selection=selection, groups=groups, groups_used=groups, normalize=False)
    plan, step = g.plan(g.select_rows(r)), Step.of([0], wanted="all")
    reference = Reference(plan, weights).forward(step)
    np.testing.assert_array_equal(Engine(plan, Source(weights), threads=1).forward(step, KVCache(plan, 32)), reference)
    if groups == 1:
        assert reference[0, :3].tolist() == want


def test_the_best_groups_are_those_of_the_greatest_pairs() -> None:
    scores = [3.0, -9, -9, 2.0, 2.0, 0, 2.5, 1.4]  # pairs: -6, -7, 2, 3.9
    weights = {"table.weight": np.array([scores], np.float32), "zero.bias": np.zeros(8, np.float32)}
    g = Graph({name: x.shape for name, x in weights.items()})
    r = g.route(g.embed("table"), used=3, gating="softmax_of_chosen", selection="zero.bias", groups=4, groups_used=2)
    found = Reference(g.plan(g.select_rows(r)), weights).forward(Step.of([0], wanted="all"))
    assert found[0, :3].tolist() == [6, 4, 7]


@pytest.mark.parametrize(
    "change",
    [
        {"gating": "sigmoid"}, {"act": "gelu"}, {"act": "clamped"}, {"gated": False}, {"act": "relu2"},
        {"normalize": False}, {"biases": True},
        {"scale": 2.0}, {"weighted_input": True}, {"shared": True}, {"selection": "selection.bias"}, {"used": 3},
        {"groups": 2, "groups_used": 1},
    ],
    ids=str,
)  # fmt: skip
def test_each_part_of_a_mixture_moves_the_logits(change: dict[str, Any]) -> None:
    step = Step.of(tokens_of(4, 12), wanted="all")
    plain, other = (Reference(*mixture(**kwargs)).forward(step) for kwargs in ({}, change))
    assert np.abs(plain - other).max() > 0.02


def test_memory_is_counted_before_it_is_taken() -> None:
    ungated = {"format": "Q8_0", "gated": False}
    for variant in ({"format": "Q4_0"}, {"format": "F32", "fused": True}, {"used": EXPERTS}, ungated):
        plan, weights = mixture(**variant)
        source = Source(weights)
        stacks = [w for w in plan.weights if w.role == "stack"]
        matrices = sum(source.tensors[w.name].nbytes for w in dict.fromkeys(Weight(w.name, w.role) for w in stacks))
        assert matrices <= packed_bytes(plan, source.tensors) <= matrices + 64 * 1024
        for threads, rows in ((1, 1), (2, 512), (5, 64)):
            need = memory_need(plan, source.tensors, 100, cache_type="f16", max_rows=rows, threads=threads)
            engine = Engine(plan, source, threads=threads, max_rows=rows)
            assert engine.scratch_bytes <= need.scratch
            engine.close()


def test_squares_are_those_of_each_experts_rows() -> None:
    plan, weights = mixture(format="Q8_0", weighted_input=True, gating="sigmoid")
    step = Step.of(tokens_of(6, 50), wanted="all")
    slots: dict[int, NDArray[np.float32]] = {}
    expected: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def watch(index: int, node: Any, outs: tuple[NDArray[np.float32], ...]) -> None:
        if node.op.kind in ("glu_experts", "experts"):
            x, r = slots[node.ins[0]], slots[node.ins[1]]
            experts, rows = r[:, :2].astype(int), x.reshape(len(x), -1, INNER) if node.op.kind == "experts" else None
            read = x[:, None] * r[:, 2:, None] if rows is None else rows
            sums = np.array([(read[experts == e].astype(np.float64) ** 2).sum(0) for e in range(EXPERTS)])
            counts = np.bincount(experts.ravel(), minlength=EXPERTS)
            expected.update({w.name: (counts, sums) for w in node.op.reads()})
        slots.update(zip(node.outs, outs, strict=True))

    Reference(plan, weights).forward(step, trace=watch)
    for threads in (1, 3):
        engine = Engine(plan, Source(weights), threads=threads)
        engine.collect_squares()
        engine.forward(step, KVCache(plan, 64))
        found = engine.squares()
        assert found["router.weight"][1].shape == (1, WIDTH)
        for name, (counts, sums) in expected.items():
            np.testing.assert_array_equal(found[name][0], counts)
            np.testing.assert_allclose(found[name][1], sums, rtol=1e-12)
        engine.close()


def test_stacks_that_do_not_fit_are_named() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "e.weight": (9, 64), "r.weight": (4, 64), "s.weight": (4, 32, 64), "t.weight": (4, 16, 64),
        "o.weight": (3, 32, 64), "n.weight": (4, 32, 32), "n.bias": (4, 16), "d.weight": (4, 48, 32), "v.weight": (64,),
    }  # fmt: skip
    g = Graph(shapes)
    x = g.embed("e")
    r = g.route(g.linear(x, "r"), used=2)
    for call, message in (
        (lambda: g.glu_experts(x, r, "s", "r"), r"'r\.weight': expected three dimensions, got \(4, 64\)"),
        (lambda: g.glu_experts(x, r, "s", "t"), r"'t\.weight': expected \(4, 32, 64\) as 's\.weight' has"),
        (lambda: g.glu_experts(x, r, "o", "s"), r"'s\.weight': expected \(3, 32, 64\)"),
        (lambda: g.glu_experts(x, r, "n", "s"), r"'n\.weight': expected 64 columns \(e\.weight\), got 32"),
        (lambda: g.glu_experts(x, r, g.rows("s", 0, 33), "s"), r"'s\.weight': expected at least 33 rows, got 32"),
        (lambda: g.experts(g.glu_experts(x, r, "s", "s"), r, "n", add=x), r"'n\.bias': expected shape \(4, 32\)"),
        (lambda: g.experts(g.glu_experts(x, r, "s", "s"), r, "d", add=x), r"'d\.weight': expected 64 rows to match"),
        (lambda: g.act_experts(x, r, "n", act="relu2"), r"'n\.weight': expected 64 columns \(e\.weight\), got 32"),
        (lambda: g.route(g.linear(x, "r"), used=5), "a token cannot go to 5 of 4 experts"),
        (lambda: g.route(g.linear(x, "r"), used=1, groups=3), "4 experts do not make 3 groups"),
    ):
        with pytest.raises(ModelError, match=message):
            call()


def test_a_slot_that_is_no_routing_reads_no_foreign_memory() -> None:
    """Numbers of experts are bounded where they are read: here they are an embedding's."""
    table = np.array([[np.nan, 1e30, -3, 2.5, 7, 0.5, 0.5, 1]] * 4, np.float32)
    weights = {"table.weight": table, "s.weight": np.ones((3, 16, 8), np.float32)}
    team, core = _core.ThreadTeam(2), _core.Weights()
    numbers = [
        core.raw(0, 4, 8, table.view(np.uint8)),
        core.stack(0, 3, 16, 8, 0, 16, weights["s.weight"].view(np.uint8)),
    ]
    core.pack(team)
    ops: Any = [
        ("embed", {"outs": [0], "table": numbers[0], "scale": 1.0}),
        ("glu_experts", {"ins": [0, 0], "outs": [1], "weights": [numbers[1]] * 2, "biases": [-1, -1], "used": 3,
                         "act": "silu", "weighted_input": False}),
    ]  # fmt: skip
    executor = _core.Executor(ops, [8, 48], 1, [], [], [], core, team, 4)
    step = np.zeros(4, np.int32)
    logits = np.zeros((4, 48), np.float32)
    executor.forward(step, np.arange(4, dtype=np.int32), step, 1, [], 1, None, np.arange(4, dtype=np.int32), logits)
    with pytest.raises(LlamaqError, match="the stack has more rows than its output"):
        _core.Executor(ops, [8, 40], 1, [], [], [], core, team, 4)
    with pytest.raises(LlamaqError, match="no activation 'relu'"):
        _core.Executor([ops[0], ("glu_experts", {**ops[1][1], "act": "relu"})], [8, 48], 1, [], [], [], core, team, 4)


def test_fast_numerics_stay_near_and_do_not_depend_on_threads() -> None:
    """Where the level has no tiles, "fast" is "exact"."""
    plan, weights = mixture(format="Q4_0", biases=True, shared=True)
    step = Step.of(tokens_of(8, 60), wanted="all")
    exact = Reference(plan, weights).forward(step)
    found = []
    for threads in (1, 2, 5):
        engine = Engine(plan, Source(weights), threads=threads, numerics="fast")
        found.append(engine.forward(step, KVCache(plan, 64)))
        few = Step.of(tokens_of(8, 60)[:16], wanted="all")  # up to 16 rows are exact
        np.testing.assert_array_equal(engine.forward(few, KVCache(plan, 64)), exact[:16])
        engine.close()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    # A router's choice between equals may differ, so rows are compared, not the farthest number.
    near = np.abs(found[0] - exact).max(axis=1) < 0.05 * np.abs(exact).max()
    assert near.mean() > 0.9


def with_adapters(tokens: NDArray[Any], handles: list[Any], sizes: tuple[int, ...]) -> Step:
    """Pieces of texts with one adapter, with none, with both, and with the other."""
    first, second = handles
    lists = [((first, 1.0),), (), ((first, 0.5), (second, 2.0)), ((second, 1.0),)]
    return Step.join(
        [
            Step.of(tokens[:n], sequence=i, wanted="all" if i % 2 else "last", adapters=lists[i])
            for i, n in enumerate(sizes)
        ]
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("variant", [VARIANTS[i] for i in (1, 4, 5, 6)], ids=str)
def test_adapters_of_stacks_and_tables_give_the_bits_of_the_reference(
    variant: dict[str, Any], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, w, adapters = mixture_with_adapters(variant)
    reference, tokens = Reference(plan, w), tokens_of(3, 40)
    for threads, sizes in ((1, (1,)), (2, (3, 2, 18, 1))):
        engine = engine_of(plan, w, isa, monkeypatch, threads=threads)
        step = with_adapters(tokens, [reference.attach(one) for one in adapters], sizes)
        want = Reference(plan, w).forward(step)
        step = with_adapters(tokens, [engine.attach(one) for one in adapters], sizes)
        np.testing.assert_array_equal(engine.forward(step, KVCache(plan, 256, "f16")), want)


def test_rows_with_adapters_of_stacks_have_the_bits_that_they_have_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, w, adapters = mixture_with_adapters({"format": "Q4_0", "biases": True})
    engine, tokens = engine_of(plan, w, ISAS[-1], monkeypatch), tokens_of(3, 40)
    handles = [engine.attach(one) for one in adapters]
    for adapted in (((handles[0], 1.0),), ((handles[1], 0.5), (handles[0], 1.5))):
        alone = [
            engine.forward(Step.of(tokens[i : i + 1], adapters=adapted), KVCache(plan, 64, "f16"))[0] for i in range(40)
        ]
        others = [Step.of(tokens[::-1], sequence=2, wanted="none", adapters=((handles[1], 3.0),))]
        others += [
            Step.of(tokens, sequence=0, wanted="all", adapters=adapted),
            Step.of(tokens, sequence=1, wanted="none"),
        ]
        got = engine.forward(Step.join(others), KVCache(plan, 256, "f16"))
        np.testing.assert_array_equal(got, alone)
    base = engine.forward(Step.of(tokens, wanted="all"), KVCache(plan, 64, "f16"))
    assert not (base == got).all(axis=1).any()
