"""Which rows come next, without threads and without a model: whatever comes, something runs while somebody waits."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.plan.op import CacheLayer
from llamaq.plan.plan import CacheGroup
from llamaq.serving.request import F32, Capture, Request
from llamaq.serving.scheduler import Scheduler
from pages import check_pages

PLAN: Any = SimpleNamespace(caches=[CacheGroup(0, 0, (CacheLayer(0, 1, 32),))], out_cols=1)


class Engine:
    """One that reads nothing, and says so to the cache."""

    plan = PLAN

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows

    def forward(self, step: Any, cache: KVCache, **_: Any) -> F32:
        assert 0 < len(step) <= self.max_rows
        for sequence in set(step.sequences.tolist()):
            positions = step.positions[step.sequences == sequence]
            assert positions[0] == cache.length(sequence)
            assert positions[-1] < len(cache.pages(sequence)) * PAGE_TOKENS
            cache.commit(sequence, int(positions[-1]) + 1)
        return np.zeros((int(step.wanted.sum()), 1), np.float32)


class Text(Request):
    """Grows by a token for each that is wanted, up to ``length``; waits for its reader while ``slow``."""

    def __init__(self, ids: list[int], length: int, *, share: bool = True, max_rows: int | None = None) -> None:
        super().__init__(list(ids), len(ids) - 1, share=share)
        self.length, self.slow, self.max_rows = length, False, max_rows
        self.error: BaseException | None = None

    def receive(self, first: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        if self.pending:
            return
        if len(self.ids) >= self.length:
            self.done = True
        else:
            self.ids.append(len(self.ids) % 3)
            self.first_wanted = len(self.ids) - 1

    def end(self, error: BaseException | None) -> None:
        self.error = error

    @property
    def paused(self) -> bool:
        return self.slow


def scheduler(pages: int, max_rows: int, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    monkeypatch.setattr(Scheduler, "wake", lambda self: None)  # the test takes the turns itself
    engine: Any = Engine(max_rows)
    n_ctx = pages * PAGE_TOKENS
    return Scheduler(engine, KVCache(PLAN, n_ctx + PAGE_TOKENS), n_ctx)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), pages=st.integers(1, 6), max_rows=st.sampled_from([1, 3, 17, 64, 512]))
def test_while_somebody_waits_something_runs(seed: int, pages: int, max_rows: int) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        s = scheduler(pages, max_rows, monkeypatch)
        n_ctx, everybody = s.n_ctx, []
        for _ in range(rng.randrange(1, 30)):
            for _ in range(rng.randrange(3)):
                ids = [0] * rng.randrange(1, n_ctx + 1)
                if rng.random() < 0.5:
                    ids[rng.randrange(len(ids))] = 1
                rows = rng.choice([None, None, 1, 5])
                text = Text(ids, rng.randrange(1, n_ctx + 1), share=rng.random() < 0.8, max_rows=rows)
                everybody.append(text)
                s.submit(text)
            for text in everybody:
                if rng.random() < 0.1:
                    text.slow = not text.slow
            if everybody and rng.random() < 0.2:
                s.abandon(rng.choice(everybody))
            for _ in range(rng.randrange(4)):
                ran = s._turn()
                assert ran or all(text.slow or text.done for text in everybody)
                check_pages(s)
        for text in everybody:
            text.slow = False
        for _ in range(len(everybody) * n_ctx * 4):
            if not s._turn():
                break
        assert all(text.done for text in everybody)
        assert [text.error for text in everybody if text.error is not None] == []
        assert not s._requests
        check_pages(s)


def test_a_text_alone_that_outgrows_the_cache_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scheduler(2, 16, monkeypatch)
    text = Text([0] * 60, 200)
    s.n_ctx = 1000
    s.submit(text)
    while s._turn():
        pass
    assert isinstance(text.error, ContextOverflowError)


def test_a_stall_is_an_error_that_tells_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scheduler(2, 16, monkeypatch)
    texts = [Text([0] * 5, 9), Text([1] * 5, 9)]
    s.submit(*texts)
    monkeypatch.setattr(s, "_choose_rows", lambda request, chosen: None)
    while s._turn():
        pass
    for text in texts:
        assert isinstance(text.error, LlamaqError)
        assert "Text(tokens=5, read=0, sequence=" in str(text.error)
    check_pages(s)


def test_a_request_that_wants_nothing_is_complete_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scheduler(2, 16, monkeypatch)
    text = Text([0] * 5, 5)
    text.first_wanted = 5
    s.submit(text)
    assert text.done
    assert not s._turn()
