"""Which rows come next, without threads and without a model: whatever comes, something runs while somebody waits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.engine.page_pool import GONE
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.serving.request import F32, Capture, Guess, Request
from llamaq.serving.scheduler import Scheduler
from pages import check_pages, limited_plan

LIMITS = [[(0, 0)], [(40, 0)], [(0, 0), (33, 0)], [(1, 0), (0, 64), (0, 0)]]
"""Window and chunk of each cache group."""


class Engine:
    """One that reads nothing, and says so to the cache."""

    def __init__(self, plan: Any, max_rows: int) -> None:
        self.plan = plan
        self.max_rows = max_rows

    def forward(self, step: Any, cache: KVCache, **_: Any) -> F32:
        assert 0 < len(step) <= self.max_rows
        for sequence in set(step.sequences.tolist()):
            positions = step.positions[step.sequences == sequence]
            assert positions[0] == cache.length(sequence)
            pages = cache.pages(sequence)
            for group, pool in enumerate(cache.pools):
                last = positions[0] // PAGE_TOKENS - 1 if pool is cache.states else positions[-1] // PAGE_TOKENS
                if pool is cache.states and positions[0] % PAGE_TOKENS:
                    continue  # the state within a page is the sequence's alone
                for i in range(pool.needed(int(positions[0])).start, last + 1):
                    assert pages[i][group] != GONE
            cache.commit(sequence, int(positions[-1]) + 1)
        return np.zeros((int(step.wanted.sum()), 1), np.float32)


class Text(Request):
    """Grows by a token for each that is wanted, up to ``length``; waits for its reader while ``held``. Where it is
    ``foreign``, its work is done when the test says so. ``guesses`` draws tokens that may be the next ones."""

    def __init__(
        self, ids: list[int], length: int, *, share: bool = True, max_rows: int | None = None, foreign: bool = False,
        guesses: random.Random | None = None,
    ) -> None:  # fmt: skip
        super().__init__(list(ids), len(ids) - 1, share=share)
        self.guesses, self.right = guesses, 0
        self.length, self.held, self.foreign, self.max_rows = length, False, foreign, max_rows
        self.error: BaseException | None = None

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self.complete = read == len(self.ids)

    def guess(self, most: int) -> Guess | None:
        if self.guesses is None:
            return None
        next, count = len(self.ids), min(most, self.length - len(self.ids))
        tokens = [(next + i + (self.guesses.random() < 0.2)) % 3 for i in range(count)]
        return Guess.alike(tokens, 1.0, 0) if tokens else None

    @property
    def wants_guesses(self) -> bool:
        return self.guesses is not None

    def settle(self) -> None:
        if not self.complete:
            return
        drafts = [*self.drafts, None]
        while len(self.ids) < self.length:
            self.ids.append(len(self.ids) % 3)
            self.first_wanted = len(self.ids) - 1
            if self.ids[-1] != drafts.pop(0):
                return
            self.right += 1
            self.read += self.sequence is not None
        self.done = True

    def on_end(self, error: BaseException | None) -> None:
        self.error = error

    @property
    def paused(self) -> bool:
        return self.held

    @property
    def runs_foreign_code(self) -> bool:
        return self.foreign


class Tasks(list[Callable[[], None]]):
    """Threads that do nothing until the test lets one of them."""

    def run(self, task: Callable[[], None]) -> None:
        self.append(task)

    def one(self, rng: random.Random) -> bool:
        if not self:
            return False
        self.pop(rng.randrange(len(self)))()
        return True


class Stepped(Scheduler):
    """The test takes the turns itself. Where the loop would wait, and can do something once its patience is over, it is
    over at once."""

    def __init__(
        self, pages: int, max_rows: int, limits: Sequence[tuple[int, int]] = LIMITS[0], states: int = 0
    ) -> None:
        engine: Any = Engine(limited_plan(*limits, states=states), max_rows)
        n_ctx = pages * PAGE_TOKENS
        super().__init__(engine, KVCache(engine.plan, n_ctx + PAGE_TOKENS, max_rows=max_rows, texts=1), n_ctx)
        self.speculation.costs.price = lambda rows: 0.0  # type: ignore[method-assign]
        self.tasks = Tasks()
        self.workers: Any = self.tasks

    def wake(self) -> None:
        return

    def _rest(self) -> bool:
        if self._stuck is not None:
            self._stuck = -math.inf
        return self._stuck is not None


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32), pages=st.integers(1, 9), max_rows=st.sampled_from([1, 3, 17, 64, 512]),
    limits=st.sampled_from(LIMITS), states=st.integers(0, 1),
)  # fmt: skip
def test_while_somebody_waits_something_runs(
    seed: int, pages: int, max_rows: int, limits: list[tuple[int, int]], states: int
) -> None:
    rng = random.Random(seed)
    s = Stepped(pages, max_rows, limits, states)
    n_ctx = s.n_ctx
    everybody: list[Text] = []
    for _ in range(rng.randrange(1, 30)):
        for _ in range(rng.randrange(3)):
            ids = [0] * rng.randrange(1, n_ctx + 1)
            if rng.random() < 0.5:
                ids[rng.randrange(len(ids))] = 1
            text = Text(
                ids, rng.randrange(1, n_ctx + 1), share=rng.random() < 0.8, max_rows=rng.choice([None, None, 1, 5]),
                foreign=rng.random() < 0.2, guesses=rng if rng.random() < 0.5 else None,
            )  # fmt: skip
            everybody.append(text)
            s.submit(text)
        for text in everybody:
            if rng.random() < 0.1:
                text.held = not text.held
        if everybody and rng.random() < 0.2:
            s.abandon(rng.choice(everybody))
        for _ in range(rng.randrange(4)):
            ran = s._turn()
            assert ran or all(text.held or text.done or text.busy for text in everybody)
            check_pages(s)
            if rng.random() < 0.3:
                s.tasks.one(rng)
    for text in everybody:
        text.held = False
    for _ in range(len(everybody) * n_ctx * 40):
        if not (s.tasks.one(rng) if rng.random() < 0.5 else s._turn()) and not s._turn() and not s.tasks.one(rng):
            break
    assert all(text.done for text in everybody)
    assert [text.error for text in everybody if text.error is not None] == []
    assert not s._requests
    check_pages(s)


def test_a_busy_request_loses_its_room_after_a_while_and_goes_on() -> None:
    s, rng = Stepped(2, 16), random.Random(0)
    busy, other = Text([0] * 40, 41, foreign=True), Text([1] * 40, 40)
    s.submit(busy)
    while not busy.busy:
        assert s._turn()
    s.submit(other)
    assert s._turn()
    assert (busy.sequence is not None, other.sequence, s._stuck) == (True, None, -math.inf)
    while s._turn():
        pass
    assert (busy.sequence, busy.kept, other.done) == (None, 40, True)
    while s.tasks.one(rng) or s._turn():
        pass
    assert busy.done
    assert busy.error is None


@pytest.mark.parametrize("states", [0, 1])
def test_a_text_with_room_for_all_of_it_goes_on_beside_one_that_is_busy(states: int) -> None:
    """The tree keeps no begun page of a prompt that nobody could go on from: writing it would take a copy of it, for
    which there is no room, and so on without an end."""
    s = Stepped(3, 3, states=states)  # four pages
    busy, other = Text([0] * 40, 60, foreign=True), Text([1] * 40, 60)
    s.submit(busy)
    while not busy.busy:
        assert s._turn()
    s.submit(other)
    for _ in range(60):
        s._turn()
    assert other.done
    while s.tasks.one(random.Random(0)) or s._turn():
        pass
    assert busy.done


def test_a_request_that_ends_while_it_is_busy_is_not_touched_by_what_it_worked_on() -> None:
    s, rng = Stepped(2, 16), random.Random(0)
    text = Text([0] * 5, 9, foreign=True)
    s.submit(text)
    assert s._turn()
    s.cancel(text)
    while s._turn():
        pass
    assert not s._requests
    assert s.tasks.one(rng)
    assert len(text.ids) == 5


def test_who_waits_for_a_page_is_not_compared_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Stepped(100, 16)
    texts = [Text([0] * 600 + [i], 601) for i in range(10)]
    find, finds = s.room.prefixes.find, []

    def counted(ids: list[int], **how: Any) -> Any:
        finds.append(len(ids))
        return find(ids, **how)

    monkeypatch.setattr(s.room.prefixes, "find", counted)
    s.submit(*texts)
    steps = 0
    while s._turn():
        steps += 1
    assert steps > 38  # steps have 16 rows: the beginning is read once
    assert [text.cached for text in texts] == [0, *[576] * 9]  # full pages are found
    assert len(finds) <= 4 * len(texts)


def test_who_waits_for_a_page_reads_it_where_the_other_gives_up() -> None:
    s = Stepped(100, 16)
    texts = [Text([0] * 600, 600) for _ in range(3)]
    s.submit(*texts)
    for _ in range(10):
        assert s._turn()
    texts[0].held = True
    while s._turn():
        pass
    assert [text.done for text in texts] == [False, True, True]
    assert [text.cached for text in texts] == [0, 160, 576]
    s.abandon(texts[0])
    assert not s._turn()
    assert not s.room._readers


def test_a_text_alone_that_outgrows_the_cache_ends_with_an_error() -> None:
    s = Stepped(2, 16)
    text = Text([0] * 60, 200)
    s.n_ctx = 1000
    s.submit(text)
    while s._turn():
        pass
    assert isinstance(text.error, ContextOverflowError)


def test_a_stall_is_an_error_that_tells_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Stepped(2, 16)
    texts = [Text([0] * 5, 9), Text([1] * 5, 9)]
    s.submit(*texts)
    monkeypatch.setattr("llamaq.serving.choice._choose_rows", lambda *_: None)
    while s._turn():
        pass
    for text in texts:
        assert isinstance(text.error, LlamaqError)
        assert "Text(tokens=5, read=0, sequence=" in str(text.error)
    check_pages(s)


def test_a_request_that_wants_nothing_is_complete_at_once() -> None:
    s = Stepped(2, 16)
    text = Text([0] * 5, 5)
    text.first_wanted = 5
    s.submit(text)
    assert text.done
    assert not s._turn()
