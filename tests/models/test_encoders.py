"""Encoders beside an independent implementation, and what files of them may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines import engine_of
from llamaq import LLM, _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.engine.memory import memory_need
from llamaq.errors import LlamaqError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES, build_plan
from llamaq.plan.op import Op
from llamaq.plan.operands import Norm
from llamaq.plan.ops.act_linear import ActLinear
from llamaq.plan.ops.bidirectional_attention import BidirectionalAttention
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.reference import Reference
from llamaq.plan.rope import make_rope
from llamaq.plan.step import Step
from tiny_encoders import ENCODERS, POSITIONS, encoder_tensors, tiny_encoder, write_encoder

BOUND = 1e-5
"""States are a few units, so their last bit is 2e-7, and they are sums of some hundred products, a few layers deep, in
another order. A fault of a formula moves them ten times as far at least."""
F32 = NDArray[np.float32]


def weights_of(file: GGUFFile) -> dict[str, Any]:
    return {name: (info.format, file.data(name)) for name, info in file.tensors.items()}


def of_interest(name: str, states: F32) -> F32:
    """Of a model that ranks, the score: that of the first token."""
    return states[:1] if name == "bert-rank" else states


@pytest.mark.parametrize("name", ENCODERS)
def test_states_are_those_of_an_independent_implementation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In NumPy; and the compiled executor has its bits on every level, on any number of threads, in any company."""
    path, ids, want = tiny_encoder(name)
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        weights = weights_of(file)
        assert {*plan.tensors} == {*file.tensors}
    states = Reference(plan, weights).forward(Step.of(ids, wanted="all"))
    assert abs(of_interest(name, states) - want).max() < BOUND
    for isa, threads in [*((isa, 2) for isa in _core.isas()), *((_core.isas()[-1], n) for n in (1, 5))]:
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads)
        cache = KVCache(plan, POSITIONS)
        np.testing.assert_array_equal(engine.forward(Step.of(ids, wanted="all"), cache), states)
        others = [Step.of(ids[5::-1], sequence=1, wanted="all"), Step.of(ids[::-1], sequence=3, wanted="last")]
        together = engine.forward(Step.join([others[0], Step.of(ids, wanted="all"), others[1]]), cache)
        np.testing.assert_array_equal(together[6:-1], states)


Change = Callable[[Any], Op]


def of(kind: type[Op], **fields: Any) -> Change:
    return lambda op: with_fields(op, **fields) if isinstance(op, kind) else op


def with_fields(op: Any, **fields: Any) -> Op:
    changed: Op = replace(op, **fields)
    return changed


def norms(**fields: Any) -> Change:
    def change(op: Any) -> Op:
        norm = getattr(op, "norm", None)
        return with_fields(op, norm=replace(norm, **fields)) if isinstance(norm, Norm) else op

    return change


def no_biases(op: Any) -> Op:
    return replace(op, biases=(None,) * len(op.biases)) if isinstance(op, Linear | ActLinear) else op


def other_rope(op: Any) -> Op:
    rope = make_rope(16, 1000.0, layout="norm")
    return replace(op, rope=rope) if isinstance(op, BidirectionalAttention) else op


COMMON: dict[str, Change] = {
    "no type": of(Embed, types=None, second_after=None),
    "biases of norms": norms(bias=None),
    "other norm": norms(kind="rms", bias=None),
    "other scale": of(BidirectionalAttention, scale=0.2),
}
BERT = COMMON | {
    "no positions": of(Embed, positions=None),
    "biases": no_biases,
    "a rope": other_rope,
}
FEATURES: dict[str, dict[str, Change]] = {
    "bert": BERT | {"gelu with tanh": of(ActLinear, act="gelu")},
    "bert-rank": BERT | {"no tanh": of(Linear, softcap=0.0), "one type": of(Embed, second_after=None)},
    "nomic-bert": COMMON
    | {"no rope": of(BidirectionalAttention, rope=None), "pairs": other_rope, "gelu": of(GluLinear, act="gelu")},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_without_a_feature_states_are_others(name: str) -> None:
    path, ids, want = tiny_encoder(name)
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        for feature, change in FEATURES[name].items():
            nodes = tuple(replace(node, op=change(node.op)) for node in plan.nodes)
            assert nodes != plan.nodes, feature
            other = replace(plan, nodes=nodes)
            states = Engine(other, file, threads=1).forward(Step.of(ids, wanted="all"), KVCache(other, POSITIONS))
            assert abs(of_interest(name, states) - want).max() > 10 * BOUND, feature


def test_a_position_without_a_row_and_half_a_text_are_refused_by_both_executors() -> None:
    path, ids, _ = tiny_encoder("bert")
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        reference, engine = Reference(plan, weights_of(file)), Engine(plan, file, threads=1)
    cache = KVCache(plan, 64)
    long = Step.of(np.resize(ids, POSITIONS + 1))
    with pytest.raises(ValueError, match=f"number {POSITIONS} lies outside the {POSITIONS} rows of 'position_embd"):
        reference.forward(long)
    with pytest.raises(LlamaqError, match=f"position {POSITIONS} lies outside the table of {POSITIONS} positions"):
        engine.forward(long, cache)
    for run in (Reference(plan, reference_weights(path)).forward, lambda step: engine.forward(step, cache)):
        run(Step.of(ids[:5]))
        with pytest.raises((ValueError, LlamaqError), match="an encoder reads whole texts"):
            run(Step.of(ids[5:9], start=5))


def reference_weights(path: Path) -> dict[str, Any]:
    with GGUFFile.open(path) as file:
        return {name: (info.format, file.data(name).copy()) for name, info in file.tensors.items()}


def test_the_need_of_memory_counts_whole_texts() -> None:
    with GGUFFile.open(tiny_encoder("nomic-bert")[0]) as file:
        _, plan = plan_of(file)
        for n_ctx in (8, 5000):
            needs = [
                memory_need(plan, file.tensors, n_ctx, cache_type="f16", max_rows=rows, threads=2)
                for rows in (8, n_ctx)
            ]
            engine = Engine(plan, file, threads=2, max_rows=n_ctx)
            assert needs[0] == needs[1]
            assert engine.scratch_bytes <= needs[0].scratch
            assert needs[0].cache == 0


nonsense = st.one_of(
    st.integers(-(2**63), 2**64), st.floats(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=5)
)
strange = st.sampled_from([(), (4,), (2, 64), (64, 64), (1, 64), (POSITIONS, 32), (2, 3, 64)])
KEYS = [
    "pooling_type",
    "attention.causal",
    "context_length",
    "attention.head_count_kv",
    "block_count",
    "rope.freq_base",
]
TENSORS = ["token_types", "position_embd", "cls", "cls.output", "token_embd_norm", "blk.0.attn_q", "blk.1.ffn_up"]


@settings(max_examples=300)
@given(
    st.sampled_from([*ENCODERS]),
    st.dictionaries(st.sampled_from(KEYS), nonsense, max_size=3),
    st.dictionaries(st.sampled_from(TENSORS), strange, max_size=2),
)
def test_nonsense_is_accepted_or_refused_but_never_crashes(
    name: str, changes: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    with GGUFFile.open(tiny_encoder(name)[0]) as file:
        metadata = {**file.metadata} | {f"{ENCODERS[name][0]}.{key}": value for key, value in changes.items()}
        known = {tensor: info.shape for tensor, info in file.tensors.items()}
    try:
        _, plan = build_plan(metadata, known | {f"{tensor}.weight": shape for tensor, shape in shapes.items()})
    except ModelError:
        return
    assert plan.encodes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"attention__causal": True}, r"bert.attention.causal is True; expected false"),
        ({"context_length": POSITIONS + 1}, rf"bert.context_length is 49; expected at most {POSITIONS}, the rows of"),
        ({"pooling_type": "mean"}, r"bert.pooling_type is 'mean'; expected an integer"),
        ({"attention__layer_norm_epsilon": None}, "lacks the key bert.attention.layer_norm_epsilon"),
    ],
    ids=str,
)
def test_keys_that_are_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        LLM.load(write_encoder(tmp_path / "e.gguf", "bert", **keys))


def test_tables_of_another_width_are_refused(tmp_path: Path) -> None:
    tensors = encoder_tensors("bert")
    for name in ("token_types.weight", "position_embd.weight"):
        wrong = tensors | {name: tensors[name][:, :32]}
        with pytest.raises(ModelError, match=f"tensor '{name}': expected 64 columns as 'token_embd.weight', got 32"):
            LLM.load(write_encoder(tmp_path / "e.gguf", "bert", wrong))
    without = {name: x for name, x in tensors.items() if name != "token_types.weight"}
    with LLM.load(write_encoder(tmp_path / "without.gguf", "bert", without)) as llm:  # DistilBERT's files are such
        assert llm.embed("a").shape == (1, 64)


def test_every_encoder_has_its_tests() -> None:
    tested = {architecture for architecture, _ in ENCODERS.values()}
    assert tested == {name for name, entry in ARCHITECTURES.items() if {*entry.tiny} & {*ENCODERS}}
    assert {*FEATURES} == {*ENCODERS} == {tiny for name in tested for tiny in ARCHITECTURES[name].tiny}
