"""Adapters in the engine: the reference's bits at every level, alone and in company, and none where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters import factors_of
from engines import all_logits, engine_of
from llamaq import _core
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import LlamaqError
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from tiny_llama import pack, plan_of, tiny_llama

ISAS = _core.isas()
METADATA, TENSORS = tiny_llama(seed=5, biases=True)
HP, PLAN = plan_of(METADATA, TENSORS)
SHAPES = {name: x.shape for name, x in TENSORS.items()}
TOKENS = np.random.default_rng(7).integers(0, HP.vocab_size, 37)


def adapters() -> list[Any]:
    """Three: ranks below, at and above the width of a register, in each format; one for some matrices alone."""
    return [
        factors_of(PLAN, SHAPES, 5, seed=1, scale=0.75),
        factors_of(PLAN, SHAPES, 16, seed=2, format="F16"),
        factors_of(PLAN, SHAPES, 35, seed=3, format="BF16", only="ffn_"),
    ]


def company(handles: list[Any]) -> Step:
    """Sequences with one adapter, with two, with another and with none, pieces of different lengths, mixed."""
    first, second, third = handles
    parts = [((first, 1.0),), (), ((first, 0.5), (third, 2.0)), ((second, 1.0),), ((first, 1.0),), ()]
    lengths = [3, 2, 18, 1, 5, 1]
    return Step.join(
        [
            Step.of(TOKENS[i : i + n], sequence=i, wanted="all" if i % 2 else "last", adapters=adapted)
            for i, (n, adapted) in enumerate(zip(lengths, parts, strict=True))
        ]
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", ["F32", "Q8_0", "Q4_0"])
def test_every_value_equals_the_reference(isa: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors: Any = TENSORS if weights == "F32" else pack(TENSORS, weights)
    engine, reference = engine_of(PLAN, tensors, isa, monkeypatch), Reference(PLAN, tensors)
    values: list[Any] = []
    step = company([reference.attach(one) for one in adapters()])
    want = reference.forward(step, lambda *one: values.append(one))
    seen = [(i, slot, out) for i, node, outs in values for slot, out in zip(node.outs, outs, strict=True)]
    captures = {(i, slot): np.empty((len(step), out.shape[1]), np.float32) for i, slot, out in seen}
    step = company([engine.attach(one) for one in adapters()])
    np.testing.assert_array_equal(engine.forward(step, KVCache(PLAN, 256, "f16"), captures=captures), want)
    for i, slot, out in seen:
        got = captures[i, slot][: len(out)]
        np.testing.assert_array_equal(got, out, err_msg=f"op {i} ({PLAN.nodes[i].op.kind})")


def logits(engine: Any, adapted: Any, sizes: list[int]) -> NDArray[np.float32]:
    cache, parts, at = KVCache(PLAN, 64, "f16"), [], 0
    for n in sizes:
        parts.append(engine.forward(Step.of(TOKENS[at : at + n], start=at, wanted="all", adapters=adapted), cache))
        at += n
    return np.concatenate(parts)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pack_weights", [True, False])
def test_chunks_threads_and_company_change_no_bit(
    threads: int, pack_weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(PLAN, pack(TENSORS, "Q4_0"), ISAS[-1], monkeypatch, threads=threads, pack=pack_weights)
    handles = [engine.attach(one) for one in adapters()]
    lists = [((handles[0], 1.0),), ((handles[1], 0.5), (handles[2], 1.5)), ()]
    alone = [logits(engine, adapted, [37]) for adapted in lists]
    assert not any(np.array_equal(alone[0], other) for other in alone[1:])
    for got, adapted in zip(alone, lists, strict=True):
        np.testing.assert_array_equal(logits(engine, adapted, [1, 17, 2, 16, 1]), got)
    cache = KVCache(PLAN, 256, "f16")
    rows: list[list[Any]] = [[], [], []]
    for at, n in ((0, 7), (7, 1), (8, 20), (28, 9)):
        parts = [
            Step.of(TOKENS[at : at + n], start=at, sequence=i, wanted="all", adapters=adapted)
            for i, adapted in enumerate(lists)
        ]
        for i, got in enumerate(np.split(engine.forward(Step.join(parts), cache), 3)):
            rows[i].append(got)
    for want, got_rows in zip(alone, rows, strict=True):
        np.testing.assert_array_equal(np.concatenate(got_rows), want)


def test_without_an_adapter_the_bits_are_those_of_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(PLAN, TENSORS, ISAS[-1], monkeypatch)
    want = all_logits(engine, KVCache(PLAN, 64, "f16"), TOKENS, [37])
    handles = [engine.attach(one) for one in adapters()]
    cache = KVCache(PLAN, 256, "f16")
    both = [
        Step.of(TOKENS, sequence=0, wanted="all"),
        Step.of(TOKENS, sequence=1, wanted="none", adapters=((handles[0], 1.0),)),
    ]
    np.testing.assert_array_equal(engine.forward(Step.join(both), cache), want)


def test_the_product_is_that_of_merged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's formula, W + scale * B @ A, in binary64. Each of some 30 products of at most 96 terms rounds by 2^-24 of
    its terms' sum, and layers amplify that by less than ten."""
    factors = factors_of(PLAN, SHAPES, 5, seed=1, scale=0.75)
    merged = dict(TENSORS)
    for weight, found in factors.items():
        a, b = (x.view(np.float32).astype(np.float64) for x in (found.a, found.b))
        a, b = (b.T, a) if weight.role == "table" else (a, b)
        merged[weight.name] = (TENSORS[weight.name] + 0.75 * 0.5 * (b @ a)).astype(np.float32)
    engine = engine_of(PLAN, TENSORS, ISAS[-1], monkeypatch)
    got = logits(engine, ((engine.attach(factors), 0.5),), [37])
    want = logits(engine_of(PLAN, merged, ISAS[-1], monkeypatch), (), [37])
    base = logits(engine, (), [37])
    scale = np.abs(want).max()
    assert np.abs(base - want).max() > 0.1 * scale
    assert np.abs(got - want).max() <= 30 * 96 * 10 * 2.0**-24 * scale


def test_adapters_of_another_engine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (engine_of(PLAN, TENSORS, ISAS[-1], monkeypatch) for _ in range(2))
    handle = one.attach(adapters()[0])
    with pytest.raises(LlamaqError, match="of another model"):
        other.forward(Step.of(TOKENS, adapters=((handle, 1.0),)), KVCache(PLAN, 64, "f16"))


@pytest.mark.parametrize("isa", ISAS)
def test_directions_move_what_nodes_give_as_the_reference_says(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beside factors, at the last layer, where rows were selected, and whatever stands beside them."""
    rng = np.random.default_rng(3)
    ends = PLAN.layer_ends[1:]
    moved = [{end: rng.normal(size=PLAN.nodes[end].cols[0]).astype(np.float32) for end in ends[i:]} for i in range(3)]
    engine, reference = engine_of(PLAN, TENSORS, isa, monkeypatch), Reference(PLAN, TENSORS)
    kinds: Any = (*adapters()[:1], {}, {})
    step, plain = (company([of.attach(*one) for one in zip(kinds, moved, strict=True)]) for of in (engine, reference))
    want = reference.forward(plain)
    np.testing.assert_array_equal(engine.forward(step, KVCache(PLAN, 256, "f16")), want)
    unmoved = Reference(PLAN, TENSORS)
    step = company([unmoved.attach(one) for one in kinds])
    assert (unmoved.forward(step) != want).any(axis=1).tolist() == [True, False, False, True, True, True, False]


def test_a_direction_that_fits_no_op_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(PLAN, TENSORS, ISAS[0], monkeypatch)
    wide = np.zeros(10**5, np.float32)
    handle = engine.attach({}, {PLAN.layer_ends[1]: wide})
    with pytest.raises(LlamaqError, match="a direction names an op or a slot"):
        engine.forward(Step.of(TOKENS, adapters=((handle, 1.0),)), KVCache(PLAN, 64, "f16"))
