"""numerics="fast": close to exact by a known bound, equal on any number of threads, exact where there are no tiles."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command import Command
from engines import Source, all_logits, attention_alone, attention_of, engine_of, tokens_of
from kernel_inputs import FLOATS, QUANTIZED, activations, random_rows
from llamaq import LLM, _core, formats
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import CacheType, KVCache
from llamaq.errors import LlamaqError
from llamaq.formats import format_by_name
from llamaq.plan.arithmetic import round_to_cache
from llamaq.plan.graph import Graph, HeadNorm, Temperature
from llamaq.plan.step import Step
from tiny_llama import pack, plan_of, tiny_llama

ISAS = _core.isas()

FAST = [isa for isa in ISAS if _core.has_fast(isa)]
"""Levels with kernels of their own for it. Tests go through them in loops, which are empty on most machines."""
MODELS = ("stories260K-Q4_0", "stories260K-Q8_0", "stories260K-F16", "babyllama-tok361-pad256-Q4_K",
          "babyllama-tok361-pad256-Q6_K")  # fmt: skip
Matrix = NDArray[np.float32]


def to_bf16(x: Matrix) -> Matrix:
    """The nearest bfloat16, halves away from zero."""
    return ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)


def error_bound(x: Matrix, w: Matrix, roundings: float) -> NDArray[np.float64]:
    """Products of bfloat16 are exact in float32, so an output is off by as many roundings as its sum has additions
    one after the other: 16 in a chain of fma, one of the two chains, 16 blocks of a slice, and the slices; and by what
    the tiles flush to zero."""
    return np.float64(roundings) * (abs(x).astype(np.float64) @ abs(w).T) + x.shape[1] * 2.0**-125


@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_kernels_against_bfloat16_in_numpy(name: str) -> None:
    rng = np.random.default_rng(21)
    fmt = format_by_name(name)
    step = max(fmt.block, 32)
    shapes = [(17, 16, step), (32, 33, 2 * step), (33, 70, -(-600 // step) * step), (70, 37, -(-2100 // step) * step)]
    if name in FLOATS:
        shapes += [(20, 19, 1), (31, 16, 45)]
    for isa in FAST:
        for m, rows, cols in shapes:
            w, x = random_rows(rng, name, rows, cols), activations(rng, m, cols)
            weights = formats.decode(fmt, w).astype(np.float32).reshape(rows, cols)
            x16, w16 = to_bf16(x), to_bf16(weights)
            got = _core.matmul(isa, fmt.id, w, x, 48, fast=True)
            additions = 16 + 1 + 16 + -(-cols // 512)
            off = abs(got - x16.astype(np.float64) @ w16.astype(np.float64).T)
            assert (off <= error_bound(x16, w16, additions * 2.0**-24)).all()
            # The unrounded product is the truth: each factor is off by up to 2^-8 of itself.
            off = abs(got - x.astype(np.float64) @ weights.astype(np.float64).T)
            assert (off <= error_bound(x, weights, 2 * 2.0**-8 + 2.0**-16 + 2 * additions * 2.0**-24)).all()


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q6_K", "IQ2_S", "F32"])
def test_an_output_depends_on_its_own_rows_alone(name: str) -> None:
    rng = np.random.default_rng(22)
    fmt = format_by_name(name)
    w, x = random_rows(rng, name, 100, 1280), activations(rng, 50, 1280)
    for isa in FAST:
        whole = _core.matmul(isa, fmt.id, w, x, 112, fast=True)
        for chunk in (16, 32, 48):
            np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x, chunk, fast=True), whole)
        for part in (slice(0, 17), slice(9, 26), slice(49, 50)):
            np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x[part], 64, fast=True), whole[part])
        np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w[16:49], x, 32, fast=True), whole[:, 16:49])


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q8_0", "F32", "BF16", "F16"])
def test_nan_stays_nan(name: str) -> None:
    """The NaN of all ones too, which rounding by addition would turn into a zero."""
    fmt = format_by_name(name)
    ones, bad = np.ones((17, 256), np.float32), np.full((17, 256), np.nan, np.float32)
    bad.view(np.uint32)[0] = 0xFFFFFFFF
    for isa in FAST:
        broken = np.full((16, fmt.row_bytes(256)), 0xFF, np.uint8)
        assert np.isnan(_core.matmul(isa, fmt.id, broken, ones, fast=True)).all()
        sound = random_rows(np.random.default_rng(1), name, 16, 256)
        assert np.isnan(_core.matmul(isa, fmt.id, sound, bad, fast=True)).all()


def test_a_level_without_it_says_so() -> None:
    with pytest.raises(LlamaqError, match="no fast kernel"):
        _core.matmul("scalar", 2, np.zeros((16, 18), np.uint8), np.ones((17, 32), np.float32), fast=True)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "F16"])
def test_engine_rounds_prompts_alone_and_on_any_number_of_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, tensors = tiny_llama(seed=8, width=256, heads=4, head_dim=64, feed_forward=512, biases=True)
    hp, plan = plan_of(metadata, tensors)
    packed = pack(tensors, name)
    tokens = np.random.default_rng(8).integers(0, hp.vocab_size, 90)

    def logits(step: Step, **kwargs: Any) -> Any:
        engine = Engine(plan, Source(packed), **{"threads": 2, "numerics": "fast", **kwargs})
        try:
            return engine.forward(step, KVCache(plan, 128, "f16"))
        finally:
            engine.close()

    for isa in ISAS:
        monkeypatch.setenv("LLAMAQ_ISA", isa)
        prompt, few = Step.of(tokens, wanted="all"), Step.of(tokens[:16], wanted="all")
        exact, fast = logits(prompt, numerics="exact"), logits(prompt)
        np.testing.assert_array_equal(logits(few), logits(few, numerics="exact"))
        assert np.array_equal(exact, fast) == (isa not in FAST)
        assert nmse(fast, exact) < 1e-3
        for threads in (1, 3):
            np.testing.assert_array_equal(logits(prompt, threads=threads), fast)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "window", "cache_type"),
    [
        (4, 2, 8, 0, "f16"),
        (6, 1, 24, 300, "f32"),
        (2, 2, 70, 100, "f16"),
        (8, 2, 64, 0, "q8_0"),
        (4, 1, 32, 40, "q4_0"),
    ],
)
def test_attention_against_numpy(
    heads: int, kv_heads: int, head_dim: int, window: int, cache_type: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries, keys and values are bfloat16 already, so exponentials alone are rounded, by up to 2^-8 of themselves."""
    rng = np.random.default_rng(head_dim)
    q_cols, kv_cols, count = heads * head_dim, kv_heads * head_dim, 560
    x = to_bf16(rng.normal(size=(60, q_cols + 2 * kv_cols)).astype(np.float32) * 3)
    each = np.split(np.eye(x.shape[1], dtype=np.float32), [q_cols, q_cols + kv_cols])
    weights = {"embd.weight": x, "out.weight": np.ones((4, q_cols), np.float32)}
    weights |= {f"{name}.weight": part for name, part in zip("qkv", each, strict=True)}
    g = Graph({name: w.shape for name, w in weights.items()})
    q, k, v = g.linear(g.embed("embd"), "q", "k", "v")
    a = g.attention(q, k, v, layer=0, heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=0.125, rope=None,
                    window=window)  # fmt: skip
    plan = g.plan(g.linear(g.select_rows(a), "out"))
    tokens = tokens_of(1, count)
    rows = x[tokens].reshape(count, -1, head_dim)
    queries = rows[:, :heads].astype(np.float64)
    keys, values = (to_bf16(round_to_cache(part, cache_type)) for part in np.split(rows[:, heads:], 2, axis=1))
    behind = np.arange(count)[:, None] - np.arange(count)
    hidden = (behind < 0) | (behind >= (window or count))
    for isa in FAST:
        found = []
        for threads in (1, 2, 5):
            engine = engine_of(plan, weights, isa, monkeypatch, threads=threads, max_rows=count, numerics="fast")
            got = attention_of(engine, KVCache(plan, count, cache_type), Step.of(tokens))
            found.append(got.reshape(count, heads, head_dim))
            np.testing.assert_array_equal(found[-1], found[0])
        for head in range(heads):
            kv = head // (heads // kv_heads)
            scores = np.where(hidden, -np.inf, 0.125 * queries[:, head] @ keys[:, kv].astype(np.float64).T)
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            off = abs(found[0][:, head] - p @ values[:, kv])
            assert (off <= (2.0**-8 + 2.0**-13) * (p @ abs(values[:, kv]))).all()


def test_what_a_row_must_not_see_cannot_touch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages begin full of NaN."""
    plan, weights = attention_alone(5, heads=6, kv_heads=2, head_dim=32, window=20)
    tokens = tokens_of(5, 50)
    for isa in FAST:
        engine = engine_of(plan, weights, isa, monkeypatch, max_rows=50, numerics="fast")
        clean, spoiled = KVCache(plan, 64), KVCache(plan, 64)
        spoiled.pools[0].data[:] = 0xFF
        want = all_logits(engine, clean, tokens, [31, 19])
        assert np.isfinite(want).all()
        np.testing.assert_array_equal(all_logits(engine, spoiled, tokens, [31, 19]), want)


@pytest.mark.parametrize(
    "features",
    [
        {"softcap": 0.8, "sinks": "sinks", "temperature": Temperature(0.3, 16), "value_dim": 40},
        {"value_of_key": True, "value_dim": 32, "rope_offset": 32, "k_norm": HeadNorm(1e-5, "norm")},
    ],
    ids=["softcap, sinks", "values of keys"],
)
def test_features_of_attention_stay(features: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, weights = attention_alone(6, heads=8, kv_heads=1, head_dim=64, q_norm=HeadNorm(1e-5, "norm"), **features)
    tokens = tokens_of(6, 300)
    for isa in FAST:
        exact, fast = (
            engine_of(plan, weights, isa, monkeypatch, max_rows=300, numerics=numerics)
            for numerics in ("exact", "fast")
        )
        got, want = (attention_of(engine, KVCache(plan, 320), Step.of(tokens)) for engine in (fast, exact))
        assert 0 < nmse(got, want) < 1e-3


def nmse(got: Matrix, want: Matrix) -> float:
    """Mean squared error, over the mean square of what is wanted."""
    return float(np.square(got - want, dtype=np.float64).sum() / np.square(want, dtype=np.float64).sum())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "mapped"])
def test_real_models(shared: Callable[[str], Path], name: str, pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared("models") / f"{name}.gguf"
    ids = np.random.default_rng(3).integers(3, 300, 64).tolist()
    for isa in FAST:
        monkeypatch.setenv("LLAMAQ_ISA", isa)
        with LLM.load(path, n_ctx=64) as exact, LLM.load(path, n_ctx=64, numerics="fast", pack=pack) as fast:
            assert (exact.engine.numerics, fast.engine.numerics) == ("exact", "fast")
            assert 0 < nmse(fast.logits(ids), exact.logits(ids)) < 1e-3
            np.testing.assert_array_equal(fast.logits(ids[:9]), exact.logits(ids[:9]))


def test_without_tiles_it_is_exact_and_the_log_says_so(
    shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared("models") / "stories260K-Q8_0.gguf"
    monkeypatch.setenv("LLAMAQ_ISA", "scalar")
    caplog.set_level(logging.INFO, "llamaq")
    with LLM.load(path, n_ctx=64) as exact, LLM.load(path, n_ctx=64, numerics="fast") as fast:
        assert fast.engine.numerics == "exact"
        np.testing.assert_array_equal(fast.logits(range(3, 67)), exact.logits(range(3, 67)))
    assert "numerics 'fast' is the same as 'exact' on the SIMD level scalar" in caplog.text


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(_core, "probe", lambda team, size, level: (10e9, 500e9))
    return Command(capsysbinary, monkeypatch)


def test_other_words_are_refused(shared: Callable[[str], Path], command: Command) -> None:
    path = shared("models") / "stories260K-Q8_0.gguf"
    wrong: Any = "quick"
    with pytest.raises(ValueError, match="numerics must be 'exact' or 'fast', got 'quick'"):
        LLM.load(path, numerics=wrong)
    for name in ("run", "bench", "perplexity"):
        done = command(name, path, "--numerics", "quick")
        assert (done.code, "'quick'" in done.err) == (2, True)


def test_commands_tell_what_runs(shared: Callable[[str], Path], command: Command) -> None:
    path = shared("models") / "stories260K-Q8_0.gguf"
    here = "fast" if _core.has_fast() else "exact"
    assert f"numerics {here}" in command("run", path, "Once", "-n", 2, "-v", "--numerics", "fast").err
    bench = command("bench", path, "-p", 20, "-n", 0, "-r", 1, "-o", "json", "--numerics", "fast")
    assert json.loads(bench.out)[0]["numerics"] == here
    assert f" {here} " in command("bench", path, "-p", 20, "-n", 0, "-r", 1, "--numerics", "fast").out.decode()
    found = json.loads(command("info", path, "--json").out)
    assert found["numerics"] == (["exact", "fast"] if _core.has_fast() else ["exact"])
