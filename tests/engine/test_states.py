"""A step may keep the state in the middle of its rows, too, for a sequence that goes back there."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile
from llamaq.plan.step import Step
from pages import limited_plan
from tiny_models import tiny_model


@pytest.fixture(params=["lfm2", "qwen35", "qwen3next", "granitehybrid", "nemotron-h", "mamba2"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with GGUFFile.open(tiny_model(request.param)[0]) as file:
        plan = plan_of(file, 64)[1]
        found = Engine(plan, file, threads=2, max_rows=32)
        yield found
        found.close()


def test_a_sequence_goes_back_to_where_a_step_was_divided(engine: Engine) -> None:
    """Two sequences in every step, of which now one, now both go back, or neither."""
    rng = random.Random(4)
    texts = [[rng.randrange(60) for _ in range(30)] for _ in range(2)]
    want = [engine.forward(Step.of(text, wanted="all"), KVCache(engine.plan, 64, "f32")) for text in texts]
    cache = KVCache(engine.plan, 128, "f32")
    assert cache.states is not None
    read, free, backs = [0, 0], cache.states.free, 0
    while min(read) < 30:
        parts, turns = [], {}
        for i, text in enumerate(texts):
            if rest := text[read[i] :]:
                sure = rng.randrange(1, min(4, len(rest)) + 1)
                right = rng.randrange(min(4, len(rest) - sure + 1))
                wrong = [rng.randrange(60) for _ in range(rng.randrange(3))]
                turns[i] = sure, right, len(wrong)
                if right or wrong:
                    assert cache.divide(i, read[i] + sure)
                ids = [*rest[: sure + right], *wrong]
                parts.append(Step.of(ids, sequence=i, start=read[i], wanted="all"))
        logits = engine.forward(Step.join(parts), cache)
        for i, (sure, right, bad) in turns.items():
            at, good = read[i], sure + right
            np.testing.assert_array_equal(logits[:good], want[i][at : at + good])
            logits = logits[good + bad :]
            read[i] = cache.settle(i, at + good)
            assert read[i] == at + (sure if bad else good)
            assert cache.length(i) == read[i]
            backs += bad > 0
    assert backs > 5
    cache.drop(0)
    cache.drop(1)
    assert cache.states.free == free


def test_without_a_slot_a_step_is_not_divided() -> None:
    cache = KVCache(limited_plan((0, 0), states=1), 64, texts=1)  # three slots
    assert cache.states is not None
    for sequence in (1, 2):
        cache.reserve(sequence, 5)
        cache.commit(sequence, 5)
    cache.reserve(1, 6)
    assert not cache.divide(1, 5)
    asked = []
    cache.evict = lambda group, pages: asked.append((group, pages)) or cache.drop(2)  # type: ignore[func-returns-value]
    assert cache.divide(1, 5)
    assert asked == [(1, 1)]
    cache.commit(1, 5)  # the step had none of the rows behind it
    assert cache.states.free == 2


def test_a_state_behind_guesses_is_none_of_a_page() -> None:
    """A step that ends with a page by guesses does not give the page a state before it is known that they are right."""
    cache = KVCache(limited_plan((0, 0), states=1), 64)
    cache.reserve(1, 32)
    cache.divide(1, 30)
    cache.commit(1, 32)
    assert cache.pages(1)[0][1] == -1
    assert cache.settle(1, 32) == 32
    assert cache.pages(1)[0][1] >= 0
    cache.reserve(2, 32)
    cache.divide(2, 30)
    cache.commit(2, 32)
    assert cache.settle(2, 31) == 30
    assert cache.pages(2)[0][1] == -1
