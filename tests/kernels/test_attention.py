"""Attention in the compiled engine: the NumPy executor's bits for every shape of heads, windows, chunks and splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import VOCABULARY, all_logits, attention_alone, attention_of, engine_of, tokens_of
from llamaq import _core
from llamaq.cli import options
from llamaq.engine.kv_cache import CACHE_TYPES, CacheType, KVCache, cache_bytes, format_of
from llamaq.errors import LlamaqError, ModelError
from llamaq.formats import decode, encode
from llamaq.plan.arithmetic import round_to_cache
from llamaq.plan.graph import Graph, HeadNorm, Temperature
from llamaq.plan.ops.attention import attend
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step

ISAS = _core.isas()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "limits",
    [{}, {"window": 1}, {"window": 5}, {"window": 100}, {"window": 300}, {"chunk": 7}, {"chunk": 256}, {"chunk": 260},
     {"window": 40, "chunk": 64}],
    ids=str,
)  # fmt: skip
def test_windows_and_chunks(isa: str, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, weights = attention_alone(1, heads=4, kv_heads=2, head_dim=8, **limits)
    tokens = tokens_of(1, 560)
    want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
    assert np.isfinite(want).all()
    for threads, sizes in ((1, [560]), (2, [300, 250] + [1] * 10), (5, [3, 254, 1, 17, 285])):
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=560)
        got = all_logits(engine, KVCache(plan, 560), tokens, sizes)
        np.testing.assert_array_equal(got, want, err_msg=f"{threads} threads, chunks {sizes}")


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@settings(max_examples=30)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 13),
    head_dim=st.integers(1, 70),
    blocks=st.integers(1, 3),
    window=st.sampled_from([0, 0, 3, 50]),
    rows=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_shape_of_heads(
    cache_type: CacheType, kv_heads: int, group: int, head_dim: int, blocks: int, window: int, rows: int, seed: int
) -> None:
    head_dim = head_dim if cache_type in ("f16", "f32") else 32 * blocks
    with pytest.MonkeyPatch.context() as monkeypatch:
        plan, weights = attention_alone(
            seed, heads=kv_heads * group, kv_heads=kv_heads, head_dim=head_dim, window=window, rope=seed % 2 == 0
        )
        tokens = tokens_of(seed, rows)
        want = Reference(plan, weights, cache_type=cache_type).forward(Step.of(tokens, wanted="all"))
        sizes = [rows - rows // 3, rows // 3] if rows > 2 else [rows]
        for isa in ISAS:
            engine = engine_of(plan, weights, isa, monkeypatch, max_rows=64)
            got = all_logits(engine, KVCache(plan, 64, cache_type), tokens, sizes)
            np.testing.assert_array_equal(got, want, err_msg=isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", ["q8_0", "q4_0"])
def test_quantized_caches_over_spans(isa: str, cache_type: CacheType, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, weights = attention_alone(8, heads=4, kv_heads=2, head_dim=32)
    tokens = tokens_of(8, 300)
    want = Reference(plan, weights, cache_type=cache_type).forward(Step.of(tokens, wanted="all"))
    assert np.isfinite(want).all()
    for threads, sizes in ((1, [300]), (2, [200, 90] + [1] * 10), (5, [3, 254, 1, 17, 25])):
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=300)
        got = all_logits(engine, KVCache(plan, 300, cache_type), tokens, sizes)
        np.testing.assert_array_equal(got, want, err_msg=f"{threads} threads, chunks {sizes}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_values_come_back_as_the_cache_keeps_them(
    isa: str, cache_type: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that sees itself alone gives its own value: ordinary ones, ties, and every kind of extreme."""
    rng = np.random.default_rng(9)
    x = (rng.normal(size=(VOCABULARY, 32)) * 10.0 ** rng.integers(-4, 4, (VOCABULARY, 1))).astype(np.float32)
    x[0] = np.arange(32) * 8 + 0.5
    x[0, 31] = 127 * 2  # the scale is 2, so there are integers and halves
    x[1] = np.where(np.arange(32) % 2, -7.0, 7.0)
    x[2], x[3], x[4] = 0, -0.0, 1e-33
    x[5] *= np.float32(1e-38)
    x[6, 9], x[7, 31], x[8, 0] = np.inf, np.nan, -np.inf
    x[9] = np.finfo(np.float32).max
    x[10] = np.linspace(-1e7, 1e7, 32)
    x[11] = np.linspace(-1e-5, 1e-5, 32)
    weights = {
        "embd.weight": x,
        "zero.weight": np.zeros((32, 32), np.float32),
        "same.weight": np.eye(32, dtype=np.float32),
    }
    g = Graph({name: w.shape for name, w in weights.items()})
    q, k, v = g.linear(g.embed("embd"), "zero", "zero", "same")
    a = g.attention(q, k, v, layer=0, heads=1, kv_heads=1, head_dim=32, scale=1.0, rope=None, window=1)
    plan = g.plan(g.linear(g.select_rows(a), "same"))
    engine = engine_of(plan, weights, isa, monkeypatch, max_rows=VOCABULARY)
    cache = KVCache(plan, VOCABULARY, cache_type)
    got = attention_of(engine, cache, Step.of(np.arange(VOCABULARY)))
    want = round_to_cache(np.where(np.isfinite(x).all(1, keepdims=True), x, np.float32(np.nan)), cache_type)
    np.testing.assert_array_equal(got, want)
    ordinary = np.r_[0:5, 11:VOCABULARY]
    fmt = format_of(cache_type)
    np.testing.assert_array_equal(want[ordinary], decode(fmt, encode(fmt, x[ordinary])))


def test_heads_must_fill_the_blocks_of_the_cache() -> None:
    plan, _ = attention_alone(1, heads=2, kv_heads=1, head_dim=24)
    with pytest.raises(
        ModelError, match=r"multiple of 32 dimensions, the model's have 24; choose 'f16' for cache_type"
    ):
        KVCache(plan, 32, "q8_0")
    with pytest.raises(LlamaqError, match="a cache is F32, F16, Q8_0 or Q4_0"):
        _core.page_bytes(32, 32, 12)
    assert options.CACHE_TYPES == CACHE_TYPES


def test_a_long_context_is_split_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many spans merge their states in several rounds; there are three rows of one sequence and one of another."""
    plan, weights = attention_alone(2, heads=32, kv_heads=4, head_dim=64)
    depth = 14000
    cache = KVCache(plan, 2 * depth + 64)
    rng = np.random.default_rng(2)
    noise = rng.normal(size=1 << 16).astype(np.float16)
    for data in [pool.data for pool in cache.pools]:
        data.view(np.float16)[:] = np.resize(noise, data.size // 2)
    for sequence, length in ((0, depth), (5, depth // 3)):
        cache.reserve(sequence, length)
        cache.commit(sequence, length)
    step = Step.join([
        Step.of(tokens_of(3, 3), start=depth, wanted="all"),
        Step.of(tokens_of(4, 1), start=depth // 3, sequence=5, wanted="all"),
    ])  # fmt: skip
    want = None
    for isa in ISAS[1:]:
        for threads in (1, 2, 5):
            engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=4)
            got = engine.forward(step, cache)
            want = got if want is None else want
            assert np.isfinite(got).all()
            np.testing.assert_array_equal(got, want, err_msg=f"{isa}, {threads} threads")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_what_a_row_must_not_see_cannot_touch_it(
    isa: str, cache_type: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages begin full of NaN, and so does everything before a window."""
    plan, weights = attention_alone(5, heads=6, kv_heads=2, head_dim=32, window=20)
    tokens = tokens_of(5, 50)
    engine = engine_of(plan, weights, isa, monkeypatch, max_rows=50)
    clean, spoiled = KVCache(plan, 64, cache_type), KVCache(plan, 64, cache_type)
    want = all_logits(engine, clean, tokens, [31, 19])
    spoiled.pools[0].data[:] = 0xFF
    np.testing.assert_array_equal(all_logits(engine, spoiled, tokens, [31, 19]), want)
    first_page = spoiled.pages(0)[0][0]
    pages = spoiled.pools[0].data.reshape(2, -1)
    all_logits(engine, spoiled, tokens, [31, 19])
    pages[first_page] = 0xFF  # the tokens 0 to 31: a row at 51 or later sees none of them
    last = engine.forward(Step.of(tokens_of(6, 3), start=50, wanted="all"), spoiled)
    assert np.isnan(last[0]).all()  # it sees token 31
    np.testing.assert_array_equal(last[1:], engine.forward(Step.of(tokens_of(6, 3), start=50, wanted="all"), clean)[1:])


NORM = HeadNorm(1e-5, "norm")
FEATURES: dict[str, dict[str, Any]] = {
    "norms": {"q_norm": NORM, "k_norm": HeadNorm(0.1, "norm")},
    "norms of each head": {"q_norm": HeadNorm(1e-5, "q_norms", "layer"), "k_norm": HeadNorm(1e-5, "k_norms", "layer")},
    "norms after the rope": {"q_norm": HeadNorm(1e-5, after_rope=True), "k_norm": HeadNorm(1e-5, None, "layer", True)},
    "softcap": {"softcap": 0.7},
    "sinks": {"sinks": "sinks"},
    "temperature": {"temperature": Temperature(0.3, 16, 1)},
    "long values": {"value_dim": 96},
    "short values": {"value_dim": 32, "rope_offset": 20},
    "values of keys": {"value_of_key": True, "value_dim": 32, "rope_offset": 32},
    "whole keys as values": {"value_of_key": True, "window": 100},
    "all": {"value_of_key": True, "value_dim": 32, "rope_offset": 32, "q_norm": NORM, "k_norm": NORM, "softcap": 2.0,
            "sinks": "sinks", "temperature": Temperature(0.1, 64), "chunk": 128},
}  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_what_families_need(isa: str, features: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal bits for whole prompts, chunks, single tokens and company, and for any number of threads."""
    plan, weights = attention_alone(11, heads=6, kv_heads=2, head_dim=64, **features)
    tokens = tokens_of(11, 320)
    want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
    assert np.isfinite(want).all()
    for threads, sizes in ((1, [320]), (2, [31, 269] + [1] * 20), (5, [3, 254, 1, 17, 45])):
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=330)
        cache = KVCache(plan, 512)
        got = all_logits(engine, cache, tokens, sizes)
        np.testing.assert_array_equal(got, want, err_msg=f"{threads} threads, chunks {sizes}")
        steps = [Step.of(tokens[300:], start=300, wanted="all"), Step.of(tokens_of(2, 9), sequence=3, wanted="all")]
        np.testing.assert_array_equal(engine.forward(Step.join(steps), cache)[:20], want[300:])


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@pytest.mark.parametrize(
    "features", [FEATURES["all"], FEATURES["short values"]], ids=["values of keys", "short values"]
)
def test_caches_of_lengths_of_their_own(
    cache_type: CacheType, features: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, weights = attention_alone(12, heads=16, kv_heads=1, head_dim=64, **features)
    tokens = tokens_of(12, 70)
    want = Reference(plan, weights, cache_type=cache_type).forward(Step.of(tokens, wanted="all"))
    for isa in ISAS:
        engine = engine_of(plan, weights, isa, monkeypatch, max_rows=70)
        cache = KVCache(plan, 96, cache_type)
        cache.pools[0].data[:] = 0xFF  # bytes that have not been written are no numbers
        np.testing.assert_array_equal(all_logits(engine, cache, tokens, [40, 29, 1]), want, err_msg=isa)


@settings(max_examples=20)
@given(head_dim=st.integers(2, 70), value_dim=st.integers(1, 70), group=st.integers(1, 9), of_key=st.booleans())
def test_every_length_of_values(head_dim: int, value_dim: int, group: int, of_key: bool) -> None:
    value_dim = min(value_dim, head_dim) if of_key else value_dim
    with pytest.MonkeyPatch.context() as monkeypatch:
        plan, weights = attention_alone(
            group, heads=group, kv_heads=1, head_dim=head_dim, value_dim=value_dim, value_of_key=of_key, sinks="sinks"
        )
        tokens = tokens_of(group, 40)
        want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
        for isa in ISAS:
            engine = engine_of(plan, weights, isa, monkeypatch, max_rows=64)
            got = all_logits(engine, KVCache(plan, 64), tokens, [30, 10])
            np.testing.assert_array_equal(got, want, err_msg=isa)


def test_the_cache_holds_values_of_keys_once() -> None:
    """Both caches of a token of DeepSeek-V2-Lite: 576 numbers where keys and values together would be 1088."""
    plan, _ = attention_alone(1, heads=1, kv_heads=1, head_dim=576, value_dim=512, value_of_key=True, rope_offset=512)
    assert cache_bytes(plan, 32) == 32 * 576 * 2
    plan, _ = attention_alone(1, heads=1, kv_heads=1, head_dim=576, value_dim=512)
    assert cache_bytes(plan, 32) == 32 * (576 + 512) * 2


def test_special_features_agree_with_textbook_formulas() -> None:
    """The reference's softcap and sinks, in float64."""
    rng = np.random.default_rng(7)
    q, k, v = (rng.normal(size=(300, 2, 8)).astype(np.float32) for _ in range(3))
    sinks = np.array([0.5, -3.0], np.float32)
    got = attend(q, k, v, np.arange(300, dtype=np.int32), 0.5, softcap=0.8, sinks=sinks)
    for head in range(2):
        scores = 0.8 * np.tanh(q[:, head].astype(np.float64) @ k[:, head].T * 0.5 / 0.8)
        weights = np.where(np.tri(300, dtype=bool), np.exp(scores), 0)
        expected = weights / (weights.sum(-1, keepdims=True) + np.exp(sinks[head])) @ v[:, head]
        np.testing.assert_allclose(got[:, head], expected, atol=2e-6)


@pytest.mark.parametrize("after_rope", [False, True])
def test_turned_heads_agree_with_textbook_formulas(after_rope: bool) -> None:
    """Norms before or after the rope, a rope behind the value's part of the key, and temperature, in float64."""
    q_norm, k_norm = HeadNorm(1e-3, "norm", after_rope=after_rope), HeadNorm(1e-3, "k_norms", "layer", after_rope)
    plan, weights = attention_alone(
        13, heads=4, kv_heads=2, head_dim=12, value_of_key=True, value_dim=8, rope_offset=8, q_norm=q_norm,
        k_norm=k_norm, temperature=Temperature(0.7, 5, 2),
    )  # fmt: skip
    seen: list[Any] = []
    reference = Reference(plan, weights, cache_type="f32")
    reference.forward(Step.of(tokens_of(13, 40), wanted="all"), lambda i, node, outs: seen.append(outs))
    (q, k, _), (out,) = seen[1:3]
    p = np.arange(40)

    def turned(x: Any, norm: Any) -> Any:
        x = x.reshape(40, -1, 12).astype(np.float64)
        x = x if after_rope else norm(x)
        pairs = (x[..., 8::2] + 1j * x[..., 9::2]) * np.exp(1j * np.outer(p, [1, 1e-2]))[:, None]
        x[..., 8::2], x[..., 9::2] = pairs.real, pairs.imag
        return norm(x) if after_rope else x

    def rms(x: Any) -> Any:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * weights["norm.weight"]

    def layer(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * weights["k_norms.weight"]

    q, k = turned(q, rms) * (1 + 0.7 * np.log((p + 2) // 5 + 1))[:, None, None], turned(k, layer)
    for head in range(4):
        keys = k[:, head // 2]
        e = np.where(np.tri(40, dtype=bool), np.exp(q[:, head] @ keys.T * 0.1), 0)
        want = e / e.sum(-1, keepdims=True) @ keys[:, :8]
        np.testing.assert_allclose(out.reshape(40, 4, 8)[:, head], want, atol=1e-5)


def test_windows_of_the_reference_agree_with_a_mask() -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.normal(size=(600, 1, 4)).astype(np.float32) for _ in range(3))
    positions = np.arange(600, dtype=np.int32)
    for window, chunk in ((0, 0), (3, 0), (290, 0), (0, 300), (100, 128)):
        got = attend(q, k, v, positions, 0.5, window=window, chunk=chunk)
        row, token = np.ogrid[:600, :600]
        seen = (token <= row) & (token > row - (window or 600)) & (token // (chunk or 600) == row // (chunk or 600))
        scores = np.where(seen, q[:, 0].astype(np.float64) @ k[:, 0].T * 0.5, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = weights / weights.sum(-1, keepdims=True) @ v[:, 0]
        np.testing.assert_allclose(got[:, 0], expected, atol=2e-5)


def seeing(rows: int, *spans: tuple[int, int]) -> Any:
    """The last position that each row sees, where those of each span see all of it."""
    last = np.arange(rows, dtype=np.int32)
    for begin, end in spans:
        last[begin:end] = end - 1
    return last


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("features", [{}, {"window": 100}, {"softcap": 0.7, "sinks": "sinks", "window": 300}], ids=str)
def test_rows_of_a_span_see_each_other(isa: str, features: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The NumPy executor's bits: whole prompts, cuts between spans, a beginning in a span, and company."""
    plan, weights = attention_alone(14, heads=6, kv_heads=2, head_dim=16, **features)
    tokens, last = tokens_of(14, 330), seeing(330, (20, 90), (230, 290))

    def step(begin: int, end: int) -> Step:
        return Step.of(tokens[begin:end], start=begin, wanted="all", last_seen=last[begin:end])

    want = Reference(plan, weights).forward(step(0, 330))
    causal = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
    assert (want != causal).any(-1).nonzero()[0].tolist() == [*range(20, 89), *range(230, 289)]
    for threads, cuts in ((1, [330]), (2, [20, 90, 95, 330]), (5, [13, 200, 290, 330])):
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=340)
        cache = KVCache(plan, 512)
        got = [engine.forward(step(a, b), cache) for a, b in zip([0, *cuts], cuts, strict=False)]
        np.testing.assert_array_equal(np.concatenate(got), want, err_msg=f"{threads} threads, cuts {cuts}")
        other = Step.of(tokens_of(2, 9), sequence=3, wanted="all")
        both = engine.forward(Step.join([other, step(250, 330)]), cache)
        np.testing.assert_array_equal(both[9:], want[250:])
        np.testing.assert_array_equal(both[:9], Reference(plan, weights).forward(Step.of(other.tokens, wanted="all")))


def test_rows_of_a_span_see_each_other_where_they_look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, weights = attention_alone(14, heads=6, kv_heads=2, head_dim=16, ahead=False)
    tokens = tokens_of(14, 100)
    want = Reference(plan, weights).forward(Step.of(tokens, wanted="all"))
    step = Step.of(tokens, wanted="all", last_seen=seeing(100, (20, 90)))
    np.testing.assert_array_equal(Reference(plan, weights).forward(step), want)
    engine = engine_of(plan, weights, ISAS[-1], monkeypatch, threads=2, max_rows=100)
    np.testing.assert_array_equal(engine.forward(step, KVCache(plan, 128)), want)


def test_spans_of_the_reference_agree_with_a_mask() -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.normal(size=(600, 1, 4)).astype(np.float32) for _ in range(3))
    last = seeing(600, (0, 30), (240, 300))
    got = attend(q, k, v, np.arange(600, dtype=np.int32), 0.5, last=last, window=290)
    row, token = np.ogrid[:600, :600]
    scores = np.where((token <= last[:, None]) & (token > row - 290), q[:, 0].astype(float) @ k[:, 0].T * 0.5, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(got[:, 0], weights / weights.sum(-1, keepdims=True) @ v[:, 0], atol=2e-5)


def test_what_attention_refuses() -> None:
    for limits in ({"window": -1}, {"chunk": -1}):
        with pytest.raises(ValueError, match="count tokens"):
            attention_alone(1, heads=2, kv_heads=1, head_dim=8, **limits)
    wrong: dict[str, Any]
    for wrong, message in (
        ({"softcap": -1.0}, "softcap must be a number from 0"),
        ({"temperature": Temperature(0.1, 0)}, "count tokens"),
        ({"rope_offset": -1}, "must not exceed head_dim"),
        ({"value_of_key": True, "value_dim": 9}, "no part of a key"),
    ):
        with pytest.raises(ValueError, match=message):
            attention_alone(1, heads=2, kv_heads=1, head_dim=8, **wrong)
    for wrong in ({"sinks": "norm"}, {"q_norm": HeadNorm(1e-5, "k_norms")}, {"k_norm": HeadNorm(1e-5, "q_norms")}):
        with pytest.raises(ModelError, match="expected shape"):
            attention_alone(1, heads=4, kv_heads=2, head_dim=8, **wrong)
