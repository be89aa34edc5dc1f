"""One model, many threads that all want something else of it at once; nox runs this under ThreadSanitizer, too."""

from __future__ import annotations

import random
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.plan.step import Step

TEXTS = ["Once upon a time", "Lily saw a big dog", "Tom", "One day, a cat went to the park and saw a bird. It"]
SAMPLING = SamplingParams(seed=4)


@pytest.fixture(scope="module")
def path(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-Q8_0.gguf")


def run_all(*jobs: Callable[[], None]) -> None:
    """Runs jobs on threads of their own; raises the first error."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_everything_at_once(path: Path, tmp_path: Path) -> None:
    """The answers are those of a model that nobody else uses; the cache is so small that pages come and go."""
    with LLM.load(path, threads=1, n_ctx=128) as llm:
        answers = {text: llm.generate(text, max_tokens=40, sampling=SAMPLING).tokens for text in TEXTS}
        scores = {text: llm.score(text).logprobs for text in TEXTS}
        vectors = llm.embed(TEXTS)
        logits = llm.logits(TEXTS[3])

    def generate(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(4):
            text = rng.choice(TEXTS)
            assert llm.generate(text, max_tokens=40, sampling=SAMPLING).tokens == answers[text]

    def read() -> None:
        for _ in range(3):
            for text in TEXTS:
                np.testing.assert_array_equal(llm.score(text).logprobs, scores[text])
            np.testing.assert_array_equal(llm.embed(TEXTS), vectors)
            np.testing.assert_array_equal(llm.forward(TEXTS[3], capture=["hidden"]).logits, logits)

    def abandon() -> None:
        for text in TEXTS * 2:
            stream = llm.stream(text)
            next(stream)
            stream.cancel()
            assert list(stream)[-1].finish_reason in ("cancelled", "stop", "context")
            llm.generate(text, timeout=0.001)

    def sessions(name: str) -> None:
        for text in TEXTS:
            session = llm.session()
            session.extend(text)
            forks = [session.fork() for _ in range(3)]
            for fork in forks:
                assert fork.generate(max_tokens=40, sampling=SAMPLING).tokens == answers[text]
            session.save(tmp_path / name)
            session.truncate(1)
            session.load(tmp_path / name)
            assert session.generate(max_tokens=40, sampling=SAMPLING).tokens == answers[text]

    with LLM.load(path, threads=3, n_ctx=128, n_cache=512) as llm:
        run_all(
            *(lambda seed=seed: generate(seed) for seed in range(4)), read, abandon,
            lambda: sessions("a"), lambda: sessions("b"),
        )  # fmt: skip
        assert llm.model.scheduler._requests == []


def test_the_engine_lets_threads_wait_for_each_other(path: Path) -> None:
    """Two threads with caches of their own on one engine, which has but one set of buffers."""
    with LLM.load(path, threads=2) as llm:
        engine: Engine = llm.engine
        want = engine.forward(Step.of(range(1, 60)), KVCache(engine.plan, 64))

        def forward() -> None:
            for _ in range(20):
                got = engine.forward(Step.of(range(1, 60)), KVCache(engine.plan, 64))
                np.testing.assert_array_equal(got, want)

        run_all(forward, forward, forward)


def test_the_module_declares_itself_for_free_threaded_python() -> None:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not getattr(sys, "_is_gil_enabled")()  # noqa: B009
    source = Path(__file__).parents[2] / "csrc/bindings/module.cpp"
    assert "mod_gil_not_used()" in source.read_text(encoding="utf-8")
