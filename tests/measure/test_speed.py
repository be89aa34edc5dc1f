"""What ``llamaq bench`` measures: the steps of a workload, the work in them, and the machine's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaq import _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.errors import InsufficientMemoryError, ISAError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorInfo
from llamaq.measure import speed as bench
from llamaq.measure.limits import cpu_name, probe
from llamaq.measure.speed import Work, Workload, seconds, work_of
from llamaq.plan.graph import Graph
from llamaq.plan.step import Step
from tiny_llama import plan_of as plan_of_arrays
from tiny_llama import tiny_llama

counts = st.integers(0, 40)


@given(counts, counts, counts, st.integers(1, 9), st.integers(1, 24))
def test_steps_take_every_token_once(prompt: int, gen: int, depth: int, parallel: int, batch: int) -> None:
    at = depth
    for start, rows, logits in Workload(prompt, gen, depth, parallel).steps(batch):
        assert start == at
        assert 1 <= rows * parallel <= max(batch, parallel)
        at += rows
        assert logits == (parallel if at >= depth + prompt else 0)
    assert at == depth + prompt + gen


def test_names_are_those_of_llama_bench() -> None:
    loads = [Workload(512, 0), Workload(0, 64, 4096), Workload(8, 4), Workload(0, 64, 16, 4)]
    assert [str(load) for load in loads] == ["pp512", "tg64 @ d4096", "pp8+tg4", "tg64 x4 @ d16"]
    assert loads[3].tokens == 256


def test_work_by_hand() -> None:
    metadata, arrays = tiny_llama()
    _, plan = plan_of_arrays(metadata, arrays)
    q8, f32 = format_by_name("Q8_0"), format_by_name("F32")
    formats = {name: f32 if x.ndim == 1 else q8 for name, x in arrays.items()}
    tensors = {
        name: TensorInfo(name, formats[name], x.shape, formats[name].row_bytes(x.size), 0) for name, x in arrays.items()
    }
    matrices = 2 * (64 * (64 + 32 + 32) + 64 * 64 + 3 * 64 * 96)  # both layers have q, k, v, output; gate, up, down
    body = matrices * 34 // 32 + 2 * 2 * 64 * 4  # each layer has two norms
    head = 50 * 64 * 34 // 32 + 64 * 4
    token = 2 * 2 * 2 * 16 * 2  # the cache has layers, keys and values, heads, numbers, bytes
    prompt = Work(2 * body + head + (16 + 24) * token, 2 * (24 * matrices + 50 * 64))
    assert work_of(Workload(24, 0), plan, tensors, 16, "f16") == prompt
    several = Work(2 * (body + head) + 3 * (101 + 102) * token, 2 * 2 * 3 * (matrices + 50 * 64))
    assert work_of(Workload(0, 2, 100, 3), plan, tensors, 16, "f16") == several


@pytest.mark.parametrize("name", ["qwen35", "gemma3"])
def test_states_count_twice_and_windows_as_far_as_they_see(shared: Callable[[str], Path], name: str) -> None:
    with GGUFFile.open(shared(f"tiny-models/{name}.gguf")) as file:
        _, plan = plan_of(file)
        works = [
            work_of(Workload(0, 1, *at), plan, file.tensors, 16, "f32").nbytes for at in ((7, 1), (7, 2), (507, 1))
        ]
    states = sum(2 * 4 * state.floats for state in plan.states)
    token = {
        group.window: sum(4 * x.kv_heads * (x.head_dim + x.value_dim) for x in group.layers) for group in plan.caches
    }
    seen = sum(bytes * (min(window, 8) if window else 8) for window, bytes in token.items())
    assert works[1] - works[0] == states + seen
    later = sum(bytes * (max(0, window - 8) if window else 500) for window, bytes in token.items())
    assert works[2] - works[0] == later
    assert states if name == "qwen35" else min(token) == 0 < max(token)


@pytest.fixture(scope="module")
def engine(shared: Callable[[str], Path]) -> Iterator[Engine]:
    with GGUFFile.open(shared("models/stories260K-Q4_0.gguf")) as file:
        yield Engine(plan_of(file)[1], file, threads=2, max_rows=64)


@pytest.mark.parametrize("load", [Workload(100, 0), Workload(0, 3), Workload(5, 3, 7), Workload(0, 2, 100, 3)], ids=str)
def test_a_workload_runs(engine: Engine, load: Workload) -> None:
    assert all(time > 0 for time in islice(seconds(engine, load, 32, "f16"), 3))


def test_what_stands_before_a_workload_is_like_what_was_read(engine: Engine) -> None:
    page = _core.PAGE_TOKENS
    read = KVCache(engine.plan, page, "f16")
    engine.forward(Step.of(np.arange(page), wanted="none"), read)
    filled = bench._filled_cache(engine, Workload(0, 4, 3 * page, 2), "f16")
    assert [filled.length(i) for i in range(5)] == [0, 0, 3 * page, 3 * page, 0]
    for layer, one_page in zip(filled.by_layer(), read.by_layer(), strict=True):
        assert (layer == one_page).all()


def test_a_cache_beyond_memory_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "available_memory", lambda: 1000)
    with pytest.raises(InsufficientMemoryError, match="tg4 x9 @ d512 needs a cache of"):
        next(seconds(engine, Workload(0, 4, 512, 9), 32, "f16"))


@pytest.mark.parametrize("level", _core.isas())
def test_the_probe_measures_every_level(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.measure.limits._BUFFER", 4 << 20)
    limits = probe(2, level)
    assert (limits.level, limits.threads) == (level, 2)
    assert limits.read_bandwidth > 1e6
    assert limits.int8_peak > 1e6


def test_the_probe_knows_no_other_level() -> None:
    with pytest.raises(ISAError, match="sse9"):
        probe(1, "sse9")


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()


def test_experts_count_as_far_as_they_are_used() -> None:
    """Two of eight experts for each row: of one row a quarter of the bytes, of more those that somebody goes to."""
    shapes = {"embd.weight": (20, 64), "norm.weight": (64,), "router.weight": (8, 64), "out.weight": (20, 64)}
    stacks = {"gate_up.weight": (8, 192, 64), "down.weight": (8, 64, 96)}
    g = Graph({**shapes, **stacks})
    x = g.embed("embd")
    r = g.route(g.linear(x, "router"), used=2)
    h = g.glu_experts(x, r, g.rows("gate_up", 0, 96), g.rows("gate_up", 96, 192))
    plan = g.plan(g.linear(g.select_rows(g.experts(h, r, "down", add=x)), "out"))
    q8 = format_by_name("Q8_0")
    tensors = {n: TensorInfo(n, q8, s, q8.row_bytes(int(np.prod(s))), 0) for n, s in {**shapes, **stacks}.items()}
    experts, others = 8 * (192 + 96) * 64, 8 * 64
    for rows in (1, 4):
        share = 1 - 0.75**rows
        nbytes = (experts * share + others + 20 * 64) * 34 / 32
        found = work_of(Workload(0, 1, 0, rows), plan, tensors, 16, "f16")
        assert abs(found.nbytes - nbytes) < 1
        assert found.int8_ops == 2 * rows * (experts // 4 + others + 20 * 64)
