"""The model that comes with llamaq: what it is and says, its context, its caches, every type it can be quantized to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams, quantize
from llamaq.engine import bundled
from llamaq.engine.kv_cache import CacheType
from llamaq.errors import ContextOverflowError
from llamaq.gguf import GGUFFile
from llamaq.gguf.imatrix import Imatrix
from llamaq.measure import chunks_of, collect_importance, scored_from
from llamaq.measure.divergence import compare_logits
from llamaq.quantization import FILE_TYPES

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "data" / "bundled.json").read_text(encoding="utf-8"))
"""Greedy answers; their bits are the same on every level and thread count, so they change with the model alone."""
RESULTS = ROOT / "benchmarks" / "results" / "xeon-cascade-lake"
REPORT = json.loads((RESULTS / "quantization-demo.json").read_text(encoding="utf-8"))
GREEDY = SamplingParams(temperature=0)
WISH = "Tell me a story about a fox"


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM.load() as found:
        yield found


@pytest.fixture(scope="module")
def held_out(llm: LLM) -> Any:
    """(2, 512) tokens: the first chunks of what the report is measured over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])  # tools are not installed
        from demo_model.corpus import document
    text = "".join(document(n, held_out=True).text for n in range(16))
    return chunks_of(llm.tokenizer, llm.tokenizer.encode(text, parse_special=True), 512, 2)


def test_the_file_says_what_it_is() -> None:
    assert bundled.path().stat().st_size <= 6_000_000
    with GGUFFile.open(bundled.path()) as file:
        assert file.metadata["general.name"] == "llamaq demo"
        assert file.metadata["general.license"] == "mit"
        assert "What it can't" in str(file.metadata["general.description"])
        assert "<|im_start|>" in str(file.metadata["tokenizer.chat_template"])


@pytest.mark.parametrize("prompt", GOLDEN)
def test_greedy_answers_are_golden(llm: LLM, prompt: str) -> None:
    answer = llm.chat([{"role": "user", "content": prompt}], sampling=GREEDY)
    assert answer.text == GOLDEN[prompt]
    assert answer.finish_reason == "stop"  # its turn ended
    assert "<|im" not in answer.text


def test_a_story_is_about_what_was_asked_for(llm: LLM) -> None:
    for seed in range(3):
        story = llm.chat([{"role": "user", "content": WISH}], sampling=SamplingParams(seed=seed))
        assert "fox" in story.text
        assert story.finish_reason == "stop"


def test_a_conversation_goes_on_from_the_cache(llm: LLM) -> None:
    said: list[Any] = [{"role": "user", "content": WISH}]
    first = llm.chat(said, sampling=GREEDY)
    said += [first.message, {"role": "user", "content": "Thank you!"}]
    second = llm.chat(said, sampling=GREEDY)
    assert second.finish_reason == "stop"
    assert second.usage.cached_tokens > first.usage.prompt_tokens
    with LLM.load(n_batch=16, threads=1) as other:
        assert other.chat(said, sampling=GREEDY).text == second.text


def test_a_full_context_has_the_same_bits_in_any_pieces(llm: LLM, held_out: Any) -> None:
    ids = held_out.reshape(-1).tolist()
    assert len(ids) == llm.n_ctx == 1024
    with LLM.load(n_batch=37, threads=1) as other:
        np.testing.assert_array_equal(llm.logits(ids), other.logits(ids))
    with pytest.raises(ContextOverflowError, match="1025"):
        llm.logits([*ids, 1])


def divergence(base: LLM, other: LLM, chunks: Any) -> float:
    first = scored_from(chunks.shape[1])

    def kl(chunk: Any) -> Any:
        read, scored = chunk[:-1].tolist(), chunk[first + 1 :]
        return compare_logits(base.logits(read, first=first), other.logits(read, first=first), scored)[0]

    return float(np.mean([kl(chunk) for chunk in chunks]))


LOSS = {row["type"]: row for row in REPORT["results"] if row["quantizer"] == "llamaq"}


@pytest.mark.parametrize(("cache", "weights"), [("f32", "Q8_0"), ("q8_0", "Q8_0"), ("q4_0", "Q4_0")])
def test_a_cache_loses_less_than_weights_of_its_type(llm: LLM, held_out: Any, cache: CacheType, weights: str) -> None:
    """That is what makes a cache type worth its bits; F32 differs from the default, F16, by less still."""
    with LLM.load(cache_type=cache) as other:
        assert divergence(llm, other, held_out) < LOSS[weights]["kl_mean"]


@pytest.fixture(scope="module")
def importance(llm: LLM, held_out: Any) -> Any:
    matrix = Imatrix()
    collect_importance(llm, held_out, matrix)
    return {name: entry.means()[0] for name, entry in matrix.entries.items()}


@pytest.mark.slow
@pytest.mark.parametrize("type", FILE_TYPES)
def test_every_type_loses_what_the_report_says(
    llm: LLM, held_out: Any, importance: Any, tmp_path: Path, type: str
) -> None:
    """The base has 8 bits, and a twelfth of the tokens is read: so it may lose twice as much, and what 8 bits lose."""
    row = LOSS.get(type, {"kl_mean": 0.0, "importance": False})  # the float types are not in the report
    matrix = importance if row["importance"] else None
    quantize(bundled.path(), tmp_path / "made.gguf", type, imatrix=matrix, allow_requantize=True)
    with LLM.load(tmp_path / "made.gguf") as other:
        assert divergence(llm, other, held_out) < 2 * (row["kl_mean"] + LOSS["Q8_0"]["kl_mean"])
