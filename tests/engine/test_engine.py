"""The compiled engine: every value of a plan equals the NumPy executor's, and bits depend on nothing but the tokens."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import Source, all_logits, engine_of
from llamaq import _core
from llamaq.engine.engine import Engine, StopFlag
from llamaq.engine.kv_cache import CacheType, KVCache
from llamaq.engine.memory import cache_tokens, memory_need
from llamaq.errors import CancelledError, ContextOverflowError, LlamaqError, ModelError
from llamaq.formats import format_by_name
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from tiny_llama import pack, plan_of, tiny_llama

ISAS = _core.isas()
WIDE = {"width": 256, "heads": 4, "head_dim": 32, "feed_forward": 256}  # these rows fill a super-block
VARIANTS: list[dict[str, Any]] = [
    {},
    {"tied": True, "biases": True, "head_dim": 24, "rope__dimension_count": 8, "rope__freq_base": 500000.0},
    {"heads": 3, "kv_heads": 1, "head_dim": 10, "layers": 1, "vocab": 7},
    {"heads": 7, "kv_heads": 1, "head_dim": 16},
    {"heads": 2, "kv_heads": 2, "head_dim": 32, "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
     "rope__scaling__original_context_length": 16},
]  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("cache_type", ["f16", "f32"])
def test_every_value_equals_the_reference(
    isa: str, variant: dict[str, Any], cache_type: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata, tensors = tiny_llama(seed=5, **variant)
    hp, plan = plan_of(metadata, tensors)
    tokens = np.random.default_rng(5).integers(0, hp.vocab_size, 11)
    engine, cache = engine_of(plan, tensors, isa, monkeypatch), KVCache(plan, 64, cache_type)
    reference = Reference(plan, tensors, cache_type=cache_type)
    for step in (Step.of(tokens[:7]), Step.of(tokens[7:], start=7, wanted="all")):
        values: list[Any] = []
        want = reference.forward(step, lambda *one, values=values: values.append(one))
        seen = [(i, slot, out) for i, node, outs in values for slot, out in zip(node.outs, outs, strict=True)]
        captures = {(i, slot): np.empty((len(step), out.shape[1]), np.float32) for i, slot, out in seen}
        np.testing.assert_array_equal(engine.forward(step, cache, captures=captures), want)
        for i, slot, out in seen:
            got = captures[i, slot][: len(out)]
            np.testing.assert_array_equal(got, out, err_msg=f"op {i} ({plan.nodes[i].op.kind})")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
                                  "Q6_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "MXFP4"])  # fmt: skip
def test_logits_equal_the_reference_in_every_format(isa: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, tensors = tiny_llama(seed=6, **WIDE)
    hp, plan = plan_of(metadata, tensors)
    weights = pack(tensors, name)
    step = Step.of(np.random.default_rng(6).integers(0, hp.vocab_size, 9), wanted="all")
    want = Reference(plan, weights).forward(step)
    assert np.isfinite(want).all()
    engine = engine_of(plan, weights, isa, monkeypatch)
    np.testing.assert_array_equal(engine.forward(step, KVCache(plan, 32)), want)


@pytest.mark.parametrize(
    ("name", "cache_type"),
    [("Q8_0", "f16"), ("Q4_K", "f32"), ("F16", "f16"), ("F16", "f32"), ("Q8_0", "q8_0"), ("Q4_K", "q4_0")],
)
def test_bits_do_not_depend_on_level_threads_chunks_or_company(
    name: str, cache_type: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 tokens: three spans of attention, whole, in chunks, token by token at the end, among others."""
    metadata, tensors = tiny_llama(seed=7, context_length=1024, **WIDE)
    hp, plan = plan_of(metadata, tensors)
    weights = pack(tensors, name)
    rng = np.random.default_rng(7)
    tokens = rng.integers(0, hp.vocab_size, 600)
    want = None
    for isa in ISAS:
        for threads, sizes in ((1, [600]), (2, [512, 88]), (5, [255, 1, 1, 256, 60, 27]), (2, [570] + [1] * 30)):
            engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=600)
            got = all_logits(engine, KVCache(plan, 1024, cache_type), tokens, sizes)
            want = got if want is None else want
            np.testing.assert_array_equal(got, want, err_msg=f"{isa}, {threads} threads, chunks {sizes}")
    engine, cache = engine_of(plan, weights, ISAS[-1], monkeypatch, max_rows=900), KVCache(plan, 2048, cache_type)
    others = [Step.of(rng.integers(0, hp.vocab_size, n), sequence=s, wanted="all") for s, n in ((9, 130), (1, 7))]
    mine = Step.of(tokens, sequence=4, wanted="all")
    together = Step.join([others[0], mine, others[1]])
    got = engine.forward(together, cache)[together.sequences == 4]
    np.testing.assert_array_equal(got, want)


def test_a_rewound_sequence_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cache, tokens = small_engine(monkeypatch)
    want = all_logits(engine, cache, tokens, [40])
    engine.forward(Step.of(tokens[5:9], start=30), cache)  # it has other tokens from 30 on
    assert cache.length(0) == 34
    got = engine.forward(Step.of(tokens[30:], start=30, wanted="all"), cache)
    np.testing.assert_array_equal(got, want[30:])


def small_engine(monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> tuple[Engine, KVCache, NDArray[Any]]:
    metadata, tensors = tiny_llama(seed=8)
    hp, plan = plan_of(metadata, tensors)
    tokens = np.random.default_rng(8).integers(0, hp.vocab_size, 40)
    return engine_of(plan, tensors, ISAS[-1], monkeypatch, **kwargs), KVCache(plan, 64), tokens


def test_wanted_rows_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cache, tokens = small_engine(monkeypatch)
    want = all_logits(engine, cache, tokens, [40])
    step = Step.of(tokens, wanted="all")
    some = Step(step.tokens, step.sequences, step.positions, np.arange(40) % 7 == 3)
    np.testing.assert_array_equal(engine.forward(some, cache), want[3::7])
    assert engine.forward(Step.of(tokens, wanted="none"), cache).shape == (0, want.shape[1])


def test_what_the_engine_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cache, tokens = small_engine(monkeypatch, max_rows=16)
    with pytest.raises(ValueError, match="max_rows"):
        engine.forward(Step.of(tokens), cache)
    with pytest.raises(ValueError, match="begins at 3"):
        engine.forward(Step.of([1, 2], start=3), cache)
    with pytest.raises(LlamaqError, match="outside the vocabulary"):
        engine.forward(Step.of([1, 10**6]), cache)
    assert cache.length(0) == 0
    all_logits(engine, cache, tokens, [16, 16, 8])
    with pytest.raises(ContextOverflowError) as caught:  # both pages are taken
        engine.forward(Step.of(tokens[:16], sequence=1), cache)
    assert (caught.value.needed, caught.value.available) == (16, 0)
    assert (cache.length(0), cache.length(1)) == (40, 0)


@pytest.mark.parametrize("name", ["Q4_0", "BF16", "TQ2_0"])
def test_matrices_that_stay_where_they_are(name: str) -> None:
    """Unpacked, a source's bytes are read at each forward: the same bits, whether the format is packed or not."""
    metadata, tensors = tiny_llama(seed=12, width=256, heads=4, head_dim=64, feed_forward=512, vocab=77)
    _, plan = plan_of(metadata, tensors)
    source, tokens = Source(pack(tensors, name)), np.arange(40)
    want = all_logits(Engine(plan, source, threads=2), KVCache(plan, 64), tokens, [33, 1, 6])
    source.mapped = True  # a copy would be packed all the same
    engine = Engine(plan, source, threads=3, max_rows=33, pack=False)
    np.testing.assert_array_equal(all_logits(engine, KVCache(plan, 64), tokens, [33, 1, 6]), want)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_memory_is_known_beforehand(variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, tensors = tiny_llama(seed=8, **variant)
    _, plan = plan_of(metadata, tensors)
    source = Source(tensors)
    for threads, rows in ((1, 1), (2, 512), (5, 64)):
        need = memory_need(plan, source.tensors, 100, cache_type="f16", max_rows=rows, threads=threads)
        engine = engine_of(plan, tensors, ISAS[-1], monkeypatch, threads=threads, max_rows=rows)
        assert engine.scratch_bytes <= need.scratch
        assert sum(pool.data.nbytes for pool in KVCache(plan, cache_tokens(100)).pools) == need.cache
        assert need.weights >= sum(w.nbytes for name, w in tensors.items() if w.ndim == 2 and "embd" not in name)


def test_a_format_without_a_decoder_is_named() -> None:
    metadata, tensors = tiny_llama(seed=8)
    _, plan = plan_of(metadata, tensors)
    source = Source(tensors)
    source.tensors["blk.0.attn_q.weight"].format = format_by_name("I8")
    with pytest.raises(ModelError, match=r"'blk\.0\.attn_q\.weight' is in the format I8"):
        Engine(plan, source, threads=1)


def test_a_stop_from_another_thread_leaves_the_cache_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, tensors = tiny_llama(seed=9, layers=4, context_length=4096, **WIDE)
    hp, plan = plan_of(metadata, tensors)
    engine = engine_of(plan, tensors, "scalar", monkeypatch, max_rows=2048)
    cache = KVCache(plan, 4096)
    tokens = np.random.default_rng(9).integers(0, hp.vocab_size, 2048)
    want = engine.forward(Step.of(tokens[:10]), cache)
    stop = StopFlag()
    timer = threading.Timer(0.01, stop.set)
    timer.start()
    with pytest.raises(CancelledError):
        engine.forward(Step.of(tokens[10:], start=10), cache, stop=stop)
    timer.join()
    assert cache.length(0) == 10
    np.testing.assert_array_equal(engine.forward(Step.of(tokens[9:10], start=9), cache), want)


def test_thread_counts_that_cannot_be() -> None:
    for threads in (0, -1, 5000):
        with pytest.raises(LlamaqError, match="threads must be 1 to 1024"):
            _core.ThreadTeam(threads)


def test_more_threads_than_cpus_do_not_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cache, tokens = small_engine(monkeypatch, threads=64)
    want = all_logits(*small_engine(monkeypatch, threads=1)[:2], tokens, [40])
    np.testing.assert_array_equal(all_logits(engine, cache, tokens, [30] + [1] * 10), want)


def test_pages_are_shared_out_and_come_back() -> None:
    metadata, tensors = tiny_llama()
    _, plan = plan_of(metadata, tensors)
    cache = KVCache(plan, 4 * _core.PAGE_TOKENS)
    cache.reserve(3, 33)
    cache.reserve(7, 1)
    cache.commit(3, 33)
    assert cache.free_tokens == _core.PAGE_TOKENS
    with pytest.raises(ContextOverflowError):
        cache.reserve(7, 70)
    cache.truncate(3, 5)
    assert cache.length(3) == 5
    cache.reserve(7, 70)
    ((_, pages),) = cache.tables([3, 7])
    assert sorted(pages[pages >= 0].tolist()) == [0, 1, 2, 3]
    cache.drop(7)
    cache.drop(7)
    assert cache.free_tokens == 3 * _core.PAGE_TOKENS
