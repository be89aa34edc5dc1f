"""``LLM``: loading, memory known beforehand, logits, and what it refuses."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import llamaq
from llamaq import LLM, SamplingParams
from llamaq.engine import memory
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import ClosedError, ContextOverflowError, GGUFError, InsufficientMemoryError, ModelError
from llamaq.plan.step import Step
from waiting import wait_until

Shared = Callable[[str], Path]


@pytest.fixture
def model(shared: Shared) -> Path:
    return shared("models") / "stories260K-Q8_0.gguf"


@pytest.fixture
def llm(model: Path) -> Iterator[LLM]:
    with LLM.load(model, threads=2) as llm:
        yield llm


def test_the_package_offers_what_it_names() -> None:
    for name in llamaq.__all__:
        assert getattr(llamaq, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = llamaq.nothing


def test_generate_reports_what_it_did(llm: LLM) -> None:
    greedy = SamplingParams(temperature=0)
    first = llm.generate("Once upon a time", max_tokens=20, sampling=greedy)
    assert (first.finish_reason, len(first.tokens)) == ("length", 20)
    assert (first.usage.prompt_tokens, first.usage.cached_tokens, first.usage.completion_tokens) == (5, 0, 20)
    again = llm.generate("Once upon a time", max_tokens=20, sampling=greedy)
    assert again.text == first.text
    assert again.usage.cached_tokens == 4  # the last token is read again for its logits


def test_logits_of_a_long_text_come_in_chunks(model: Path) -> None:
    ids = [1, *range(3, 259)]
    with LLM.load(model, n_batch=512) as whole, LLM.load(model, n_batch=7, threads=1) as pieces:
        np.testing.assert_array_equal(whole.logits(ids), pieces.logits(ids))


def test_usage_and_seed_of_the_latest_answer_are_deprecated(model: Path) -> None:
    with LLM.load(model, threads=1) as llm:
        done = llm.generate("Tom", max_tokens=3)
        with pytest.warns(DeprecationWarning, match="a Completion and a Stream have a usage"):
            assert llm.usage == done.usage
        with pytest.warns(DeprecationWarning, match="a Completion and a Stream have a seed"):
            assert llm.seed == done.seed


def test_too_long_a_prompt_is_refused_with_both_numbers(model: Path) -> None:
    with LLM.load(model, n_ctx=16) as llm:
        with pytest.raises(ContextOverflowError, match="17 tokens, the context 16") as caught:
            llm.stream([1] * 17)
        assert (caught.value.needed, caught.value.available) == (17, 16)


def test_the_end_of_the_context_ends_the_text(model: Path) -> None:
    with LLM.load(model, n_ctx=16) as llm:
        done = llm.generate([1] * 10, sampling=SamplingParams(temperature=0))
    assert done.finish_reason == "context"
    assert len(done.tokens) == 7  # six more fit, and the logits of the last give one


def test_a_context_beyond_the_memory_is_refused_before_anything_is_allocated(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    with pytest.raises(InsufficientMemoryError, match=r"needs .* GiB .* cache of 100000000 tokens") as caught:
        LLM.load(model, n_ctx=100_000_000)
    assert caught.value.needed > caught.value.available == 2**30


def test_the_default_context_is_cut_to_the_memory_and_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need = LLM.load(model, threads=1).memory
    assert need.n_ctx == 512
    monkeypatch.setattr(memory, "available_memory", lambda: need.total - 1)
    with LLM.load(model, threads=1) as llm:
        assert llm.n_ctx == 256
    assert "256 tokens instead of the model's 512" in caplog.text


def test_available_memory_is_the_tightest_limit(tmp_path: Path) -> None:
    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert memory.available_memory(tmp_path) is None
    put("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert memory.available_memory(tmp_path) == 8000 * 1024
    put("proc/self/cgroup", "0::/user/app\n")
    put("sys/fs/cgroup/user/memory.max", "5000000\n")
    put("sys/fs/cgroup/user/memory.current", "4000000\n")
    put("sys/fs/cgroup/user/memory.stat", "anon 1000000\ninactive_file 500000\n")
    put("sys/fs/cgroup/user/app/memory.max", "max\n")
    assert memory.available_memory(tmp_path) == 1500000
    put("proc/self/cgroup", "4:memory:/app\n")  # this is version 1
    put("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "3000000\n")
    put("sys/fs/cgroup/memory/app/memory.usage_in_bytes", "2999999\n")
    assert memory.available_memory(tmp_path) == 1


def test_available_memory_is_a_plausible_number() -> None:
    available = memory.available_memory()
    assert available is None or 2**20 < available < 2**50


def test_a_closed_model_says_so(model: Path) -> None:
    llm = LLM.load(model)
    stream, engine = llm.stream("x"), llm.engine
    next(stream)
    llm.close()
    llm.close()
    for call in (lambda: llm.generate("x"), lambda: next(stream), lambda: llm.n_ctx, lambda: llm.metadata):
        with pytest.raises(ClosedError, match="closed; load it again"):
            call()
    with pytest.raises(ClosedError, match="closed"):
        engine.forward(Step.of([1]), KVCache(engine.plan, 32))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_running_after_close(model: Path) -> None:
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    for _ in range(3):
        with LLM.load(model, threads=5) as llm:
            stream = llm.stream("x")
            next(stream)
            # The scheduler's ends once it waits for the stream.
            wait_until(lambda: len(list(tasks.iterdir())) <= before + 4)
            assert len(list(tasks.iterdir())) == before + 4
        assert len(list(tasks.iterdir())) == before
        assert stream is not None


def test_a_model_that_nobody_holds_is_freed_at_once(model: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        llm = LLM.load(model, threads=2)
        llm.generate("x", max_tokens=3)
        llm.session().generate("x", max_tokens=3)
        llm.embed("x")
        parts = [weakref.ref(part) for part in (llm, llm.model.scheduler, llm.engine, llm.model.parts.cache)]
        wait_until(partial(getattr, llm.model.scheduler, "idle"))
        del llm
        assert [part() for part in parts] == [None] * 4
    finally:
        gc.enable()


def test_the_memory_is_that_of_the_cache_however_many_texts_there_are(model: Path) -> None:
    with LLM.load(model, threads=1, n_ctx=64, n_cache=256) as llm:
        (cache,) = [pool.data for pool in llm.model.parts.cache.pools]
        assert llm.memory.cache == cache.nbytes
        assert llm.memory.n_ctx == llm.n_ctx == 64
        sessions = [llm.session() for _ in range(20)]
        for i, session in enumerate(sessions):
            session.generate(f"Tom saw {i}", max_tokens=30)
        llm.batch(["Tom", "Lily"] * 10, max_tokens=30)
        assert llm.model.parts.cache.pools[0].data is cache
        assert llm.engine.scratch_bytes <= llm.memory.scratch


@pytest.mark.parametrize(
    "name", ["stories260K-F32", "stories260K-F16", "stories260K-Q4_0", "stories260K-Q5_1", "stories260K-Q8_0",
             "babyllama-tok361-pad256-Q4_K", "babyllama-tok361-pad256-Q6_K"]
)  # fmt: skip
def test_unpacked_weights_give_the_same_bits_from_the_file(shared: Shared, name: str) -> None:
    path = shared("models") / f"{name}.gguf"
    tokens = list(range(1, 60))
    with LLM.load(path, threads=2, n_batch=32) as packed, LLM.load(path, threads=3, n_batch=32, pack=False) as llm:
        np.testing.assert_array_equal(llm.logits(tokens), packed.logits(tokens))
        assert (
            llm.generate("x", max_tokens=9, sampling=SamplingParams(seed=1)).tokens
            == packed.generate("x", max_tokens=9, sampling=SamplingParams(seed=1)).tokens
        )
        assert llm.memory.weights == 0
        assert llm.memory.mapped > packed.memory.mapped
        assert llm.engine.scratch_bytes <= llm.memory.scratch


@pytest.mark.parametrize("arguments", [{"n_ctx": -1}, {"threads": -2}, {"threads": 1025}, {"n_batch": 0}])
def test_settings_out_of_range(model: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(
        ValueError, match=f"{next(iter(arguments))} must be a whole number from [01] to (2147483647|1024), got"
    ):
        LLM.load(model, **arguments)


def test_files_that_are_no_models(shared: Shared, tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="no such file"):
        LLM.load(tmp_path / "absent.gguf")
    with pytest.raises(ModelError, match=r"ggml-vocab-llama-spm\.gguf: .* no tensors"):
        LLM.load(shared("vocab") / "ggml-vocab-llama-spm.gguf")


@pytest.mark.parametrize("pack", [True, False])
def test_a_file_that_is_shortened_while_it_is_in_use_is_an_error(stories: Path, tmp_path: Path, pack: bool) -> None:
    """And not the end of the process, which reading a mapped page that is gone would be."""
    path = tmp_path / "model.gguf"
    path.write_bytes(stories.read_bytes())
    with LLM.load(path, threads=1, n_ctx=64, pack=pack) as llm:
        expected = llm.generate("Once", max_tokens=4, sampling=SamplingParams(temperature=0)).text
        stream = llm.stream("Twice", sampling=SamplingParams(ignore_eos=True))
        next(stream)
        wait_until(lambda: llm.model.scheduler.idle)  # no step reads now
        os.truncate(path, 4096)
        with pytest.raises(GGUFError, match=r"model.gguf: the file had \d+ bytes .* and has 4096 now; put it back"):
            for _ in stream:
                pass
        for ask in (partial(llm.generate, "Once", max_tokens=4), partial(llm.embed, "x"), partial(llm.logits, "x y")):
            with pytest.raises(GGUFError, match="has 4096 now"):
                ask()
        path.write_bytes(stories.read_bytes())
        assert llm.generate("Once", max_tokens=4, sampling=SamplingParams(temperature=0)).text == expected
