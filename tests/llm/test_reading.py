"""What ``LLM`` offers beside text: many prompts at once, scores, embeddings, tokens, and twins for coroutines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import CancelledError, ContextOverflowError, TokenizerError
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from llamaq.llm.embedding import final_norm
from llamaq.plan.arithmetic import rms_norm
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step

GREEDY = SamplingParams(temperature=0)
TEXTS = ["Once upon a time", "Lily saw a big dog in the park", "Tom"]


@pytest.fixture(scope="module")
def path(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.fixture(scope="module")
def llm(path: Path) -> Iterator[LLM]:
    with LLM.load(path, threads=1, n_ctx=256, n_cache=1024) as llm:
        yield llm


def test_a_batch_gives_what_each_prompt_gives_alone(llm: LLM) -> None:
    sampling = SamplingParams(seed=5)
    batch = llm.batch(TEXTS, max_tokens=20, sampling=sampling)
    assert [b.tokens for b in batch] == [llm.generate(t, max_tokens=20, sampling=sampling).tokens for t in TEXTS]
    several = llm.batch(["Tom"] * 3, max_tokens=20, samplings=[sampling.nth(i) for i in range(3)])
    assert several[0].tokens == llm.generate("Tom", max_tokens=20, sampling=sampling).tokens
    assert len({b.tokens for b in several}) == 3
    assert [b.seed for b in several] == [5, 6, 7]
    assert llm.batch([]) == []
    with pytest.raises(ValueError, match="samplings must be as many as prompts: got 1 for 2"):
        llm.batch(["a", "b"], samplings=[sampling])


def test_a_batch_with_one_bad_prompt_begins_nothing(llm: LLM) -> None:
    with pytest.raises(ContextOverflowError):
        llm.batch(["Tom", [5] * 300])
    assert llm.model.scheduler._requests == []
    done = llm.batch(["Tom", [5] * 300], max_tokens=3, overflow="truncate_left")
    assert [d.usage.dropped_tokens for d in done] == [0, 47]


def test_scores_are_the_logprobs_of_the_model(llm: LLM) -> None:
    text = "Lily saw a big dog in the park. It was red."
    ids = llm.prompt_ids(text)
    score = llm.score(text)
    rows = llm.logits(ids).astype(np.float64)[:-1]
    rows -= rows.max(axis=1, keepdims=True)
    want = [row[id] - math.log(np.exp(row).sum()) for row, id in zip(rows, ids[1:], strict=True)]
    assert score.tokens == tuple(ids[1:])
    np.testing.assert_allclose(score.logprobs, want, rtol=0, atol=1e-7)
    assert score.sum == pytest.approx(sum(want))
    done = llm.generate(text, max_tokens=5, sampling=SamplingParams(temperature=0, logprobs=2))
    after = llm.score(done.tokens, prompt=text, top_logprobs=2)
    assert after.tokens == done.tokens
    assert after.logprobs.tolist() == [t.logprob for t in done.events if t.token is not None]
    assert after.top_logprobs == tuple(t.top_logprobs for t in done.events if t.token is not None)
    assert score.top_logprobs == ()
    with pytest.raises(ValueError, match="top_logprobs"):
        llm.score(text, top_logprobs=-1)
    assert llm.score(done.text, prompt=text).tokens == done.tokens
    assert np.array_equal(llm.score(text).logprobs, score.logprobs)  # this comes from the cache
    with pytest.raises(ContextOverflowError):
        llm.score([5] * 300)
    assert llm.score([5]).tokens == ()


def test_logprobs_come_with_the_events(llm: LLM) -> None:
    done = llm.generate("Tom", max_tokens=4, sampling=SamplingParams(temperature=0, logprobs=3))
    for event in done.events:
        if event.token is not None:
            assert event.logprob == event.top_logprobs[0][1]
            assert event.top_logprobs[0][0] == event.token
            assert len(event.top_logprobs) == 3
    assert all(e.logprob is None for e in llm.generate("Tom", max_tokens=2).events)


def kept(states: list[np.ndarray], index: int, op: object, outs: tuple[np.ndarray, ...]) -> None:
    states.append(outs[0])


@pytest.mark.parametrize("pooling", ["mean", "last", "cls", None])
def test_embeddings_are_the_normed_states_of_the_reference(llm: LLM, path: Path, pooling: str | None) -> None:
    got = llm.embed(TEXTS, pooling=pooling)
    assert got.dtype == np.float32
    assert got.shape == (3, llm.hparams.width)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    with GGUFFile.open(path) as file:
        weights = {name: (info.format, file.data(name)) for name, info in file.tensors.items()}
        norm = decode(*weights["output_norm.weight"])
        for text, vector in zip(TEXTS, got, strict=True):
            ids = llm.prompt_ids(text)
            states: list[np.ndarray] = []
            watch = partial(kept, states)
            Reference(llm.plan, weights).forward(Step.of(ids), watch)
            last = final_norm(llm.plan)
            assert last is not None
            normed = rms_norm(states[-3], norm, last.eps)  # two ops follow it
            want = {"mean": normed.mean(0), "last": normed[-1], "cls": normed[0]}[pooling or "mean"]
            np.testing.assert_allclose(vector, want / np.linalg.norm(want), atol=1e-6)
    one = llm.embed("Tom", pooling=pooling, normalize=False)
    assert one.shape == (1, llm.hparams.width)
    np.testing.assert_array_equal(llm.embed(TEXTS, pooling=pooling)[2:], llm.embed(["Tom"], pooling=pooling))


def test_embeddings_that_cannot_be(llm: LLM) -> None:
    with pytest.raises(ValueError, match="pooling"):
        llm.embed("x", pooling="max")
    with pytest.raises(ContextOverflowError):
        llm.embed([[5] * 300])
    assert llm.embed([]).shape == (0, llm.hparams.width)


def test_tokens_and_text(llm: LLM) -> None:
    ids = llm.tokenize("Lily saw a dog")
    assert llm.detokenize(ids) == "Lily saw a dog"
    assert llm.tokenize("Lily saw a dog", add_special=True) == [1, *ids] == llm.prompt_ids("Lily saw a dog")
    with pytest.raises(TokenizerError):
        llm.detokenize([10**6])


def test_twins_for_coroutines(llm: LLM) -> None:
    async def run() -> None:
        one, batch, score, vector = await asyncio.gather(
            llm.agenerate("Tom", max_tokens=5, sampling=GREEDY),
            llm.abatch(TEXTS, max_tokens=5, sampling=GREEDY),
            llm.ascore("Tom saw a dog"),
            llm.aembed("Tom"),
        )
        text = "".join([event.text async for event in llm.stream("Tom", max_tokens=5, sampling=GREEDY)])
        assert one.text == batch[2].text == text
        np.testing.assert_array_equal(score.logprobs, llm.score("Tom saw a dog").logprobs)
        np.testing.assert_array_equal(vector, llm.embed("Tom"))

    asyncio.run(run())


def test_cancel_ends_all_that_runs(llm: LLM) -> None:
    async def run() -> None:
        answer, read = asyncio.ensure_future(llm.agenerate("Tom")), asyncio.ensure_future(llm.ascore([7] * 250))
        await asyncio.sleep(0)
        llm.cancel()
        assert (await answer).finish_reason == "cancelled"
        with pytest.raises(CancelledError):
            await read
        score = asyncio.ensure_future(llm.ascore([7] * 250))
        await asyncio.sleep(0)
        score.cancel()
        with pytest.raises(asyncio.CancelledError):
            await score

    asyncio.run(run())
    assert llm.generate("Tom", max_tokens=2).finish_reason == "length"
