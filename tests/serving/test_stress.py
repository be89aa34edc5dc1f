"""Everything at once on a cache that is too small: threads, forks of sessions, slow readers, timeouts, cancels. Every
answer that ends by itself is what the model says alone, nobody waits for ever, and no page is lost.

It lasts LLAMAQ_STRESS_SECONDS (default 5); LLAMAQ_STRESS_SEED repeats a run, as far as threads let it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import CancelledError, ContextOverflowError
from llamaq.serving.speculation import Costs
from pages import check_pages
from tiny_models import tiny_model
from waiting import wait_until

SECONDS = float(os.environ.get("LLAMAQ_STRESS_SECONDS", "5"))
SEED = int(os.environ.get("LLAMAQ_STRESS_SEED", random.SystemRandom().randrange(10**6)))
N_CTX = 160  # five pages
STALL = 60.0  # seconds without any answer

Key = tuple[tuple[int, ...], int, int]
"""Prompt, seed, most tokens."""


class Work:
    """What one thread does to the model, one thing after the other, and sometimes inside each other."""

    def __init__(self, llm: LLM, seed: int, answers: dict[Key, tuple[int, ...]], folder: Path) -> None:
        self.llm, self.rng, self.answers, self.folder = llm, random.Random(seed), answers, folder
        self.done: Counter[str] = Counter()
        self.depth = 0

    def one(self) -> None:
        acts: list[Callable[[], None]] = [
            self.generate, self.read_slowly, self.give_up, self.time_out, self.talk, self.score, self.look, self.shift,
            self.process,
        ]  # fmt: skip
        act = self.rng.choice(acts if self.depth == 0 else acts[:1])
        self.depth += 1
        act()
        self.depth -= 1
        self.done[act.__name__] += 1

    def key(self) -> Key:
        return self.rng.choice(list(self.answers))

    def stream(self, key: Key, **options: Any) -> Any:
        return self.llm.stream(key[0], max_tokens=key[2], sampling=SamplingParams(seed=key[1]), **options)

    def generate(self) -> None:
        keys = [self.key() for _ in range(self.rng.choice([1, 1, 1, 3, 6]))]
        streams = [self.stream(key) for key in keys]
        assert [s.result().tokens for s in streams] == [self.answers[key] for key in keys]

    def read_slowly(self) -> None:
        key = self.key()
        tokens = []
        for event in self.stream(key):
            if event.token is not None and event.token not in self.llm.tokenizer.eog_ids:
                tokens.append(event.token)
            if self.rng.random() < 0.1:
                self.one()
        assert tuple(tokens) == self.answers[key]

    def give_up(self) -> None:
        stream = self.stream(self.key())
        for _ in range(self.rng.randrange(4)):
            next(stream, None)
        if self.rng.random() < 0.5:
            stream.cancel()

    def time_out(self) -> None:
        key = self.key()
        done = self.stream(key, timeout=self.rng.choice([0.0, 1e-4, 1e-3, 1e-2])).result()
        assert self.answers[key][: len(done.tokens)] == done.tokens
        assert done.finish_reason == "cancelled" or done.tokens == self.answers[key]

    def talk(self) -> None:
        key = self.key()
        half = len(key[0]) // 2
        session = self.llm.session()
        if half:
            session.extend(list(key[0][:half]))
        fork = session.fork()
        for text in (session, fork):
            answer = text.generate(list(key[0][half:]), max_tokens=key[2], sampling=SamplingParams(seed=key[1]))
            assert answer.tokens == self.answers[key]
        path = self.folder / f"{threading.get_ident()}.session"
        session.save(path)
        fork.load(path)
        assert fork.tokens == session.tokens
        fork.truncate(half)
        assert fork.tokens == key[0][:half]

    def score(self) -> None:
        prompt, seed, most = self.key()
        tokens = self.answers[prompt, seed, most][: N_CTX - len(prompt)]
        assert self.llm.score(tokens, prompt=prompt).tokens == tokens
        assert len(self.llm.score("", prompt=prompt).tokens) == 0

    def look(self) -> None:
        texts = [list(self.key()[0][:20]) for _ in range(3)]

        async def both() -> Any:
            return await asyncio.wait_for(self.llm.aembed(texts), self.rng.choice([1e-4, 1e-3, 10.0]))

        with suppress(asyncio.TimeoutError, CancelledError):
            np.testing.assert_array_equal(asyncio.run(both()), self.llm.embed(texts))

    def shift(self) -> None:
        self.llm.generate(self.key()[0], max_tokens=40, overflow="shift", sampling=SamplingParams(seed=1))

    def process(self) -> None:
        """Answers whose logit processors wait for what other threads ask the model, some of them for one object."""
        keys = [self.key() for _ in range(self.rng.choice([1, 1, 3]))]
        asks = Asks(self.llm, self.key()[0][:40], self.rng.random())
        streams = [
            self.llm.stream(
                key[0], max_tokens=min(key[2], 5), sampling=SamplingParams(seed=key[1], logit_processors=[asks])
            )
            for key in keys
        ]
        if self.rng.random() < 0.2:
            streams.pop().cancel()
        for key, stream in zip(keys, streams, strict=False):
            assert stream.result().tokens == self.answers[key][:5]


class Asks:
    """A logit processor that now and then waits for another thread's score; its calls never overlap."""

    pool = ThreadPoolExecutor(3)

    def __init__(self, llm: LLM, text: tuple[int, ...], often: float) -> None:
        self.llm, self.text, self.often, self.rng = llm, text, often, random.Random(len(text))
        self.inside = threading.Lock()

    def __call__(self, ids: Any, logits: Any) -> None:
        assert self.inside.acquire(blocking=False)
        try:
            if self.rng.random() < self.often:
                assert self.pool.submit(self.llm.score, self.text).result().sum <= 0
        finally:
            self.inside.release()


def reference(path: Path, rng: random.Random) -> dict[Key, tuple[int, ...]]:
    """Answers of a model that does one thing at a time, from prompts that share beginnings."""
    with LLM.load(path, threads=1, n_ctx=N_CTX) as llm:
        longest = [1, *(rng.randrange(3, 512) for _ in range(N_CTX - 2))]
        answers = {}
        for _ in range(40):
            prompt = longest[: rng.randrange(1, N_CTX)] + [rng.randrange(3, 512) for _ in range(rng.randrange(2))]
            seed, most = rng.randrange(9), rng.choice([0, 1, 2, 5, 20, 60])
            done = llm.generate(prompt, max_tokens=most, sampling=SamplingParams(seed=seed))
            answers[tuple(prompt), seed, most] = done.tokens
        return answers


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_batch"), [("stories260K-Q4_0", 3), ("stories260K-Q4_0", 100), ("qwen35", 3)])
def test_everything_at_once_on_a_small_cache(
    shared: Callable[[str], Path], tmp_path: Path, name: str, n_batch: int,
    record_property: Callable[[str, object], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Qwen 3.5 keeps states of convolutions and delta nets. Guesses cost nothing, so that there are many."""
    monkeypatch.setattr("llamaq.serving.scheduler._PATIENCE", 0.005)
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    path = shared(f"models/{name}.gguf") if name.startswith("stories") else tiny_model(name)[0]
    answers = reference(path, random.Random(SEED))
    errors: list[BaseException] = []
    end = time.monotonic() + SECONDS / 2
    llm = LLM.load(path, threads=2, n_ctx=N_CTX, n_batch=n_batch)
    works = [Work(llm, SEED + i, answers, tmp_path) for i in range(6)]

    def run(work: Work) -> None:
        try:
            while time.monotonic() < end and not errors:
                work.one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    seen, since = 0, time.monotonic()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.2)
        total = sum(sum(work.done.values()) for work in works)
        seen, since = (total, time.monotonic()) if total != seen else (seen, since)
        if time.monotonic() - since > STALL:
            faulthandler.dump_traceback()
            pytest.fail(f"seed {SEED}: nothing went on for {STALL} s; {llm.model.scheduler._state()}")
    assert not errors, f"seed {SEED}: {errors[0]!r}"
    counts = sum((work.done for work in works), Counter[str]())
    record_property("counts", dict(counts))
    print(f"seed {SEED}, {name}, {n_batch} rows: {dict(counts)}")
    del works
    gc.collect()
    llm.model.scheduler.cancel_all()
    with pytest.raises(ContextOverflowError):
        llm.generate([1] * (N_CTX + 1))
    llm.generate([1], max_tokens=1)
    wait_until(lambda: llm.model.scheduler.idle)
    check_pages(llm.model.scheduler)
    llm.close()
