"""Control vectors are adapters: each text has the bits of its own, in whatever company, and files that fit no model are
refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter, write_vector
from llamaq import LLM, SamplingParams, verify
from llamaq.engine.adapters import AdapterFile
from llamaq.errors import ModelError, ReceiptError

SAMPLED = SamplingParams(seed=3)
PROMPT = "Once upon a time there was a little girl named Lily. She had a red ball and a big brown dog. One day"
LAYERS, WIDTH = 5, 64


def directions(seed: int, layers: range = range(1, LAYERS)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {f"direction.{i}": rng.normal(0, 0.5, WIDTH).astype(np.float32) for i in layers}


@pytest.fixture(scope="module")
def files(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("vectors")
    q = random_factors("q", WIDTH, WIDTH, 4)
    return [
        write_vector(folder / "happy.gguf", directions(1)),
        write_vector(folder / "sad.gguf", directions(2, range(2, 4))),
        write_adapter(folder / "lora.gguf", {"blk.1.attn_q.weight": q}, alpha=4.0),
    ]


@pytest.fixture
def llm(stories: Path, files: list[Path]) -> Iterator[LLM]:
    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048) as llm:
        for file in files:
            llm.load_adapter(file)
        llm.load_adapter(files[0], name="late", layers=(3, 9))
        yield llm


def test_the_output_of_a_layer_moves(llm: LLM, files: list[Path]) -> None:
    """What the named layer leaves differs by the vector times the scale, rounded once each; those before it do not."""
    plain = llm.forward(PROMPT, capture=["hidden"]).hidden
    llm.adapter = {"sad": 0.3}
    moved = llm.forward(PROMPT, capture=["hidden"]).hidden
    np.testing.assert_array_equal(moved[:3], plain[:3])  # the embeddings, layers 0 and 1
    vector = directions(2, range(2, 4))["direction.2"]
    np.testing.assert_array_equal(moved[3], plain[3] + (vector * np.float64(0.3)).astype(np.float32))
    assert not np.array_equal(moved[4], plain[4])


def test_answers_in_one_batch_are_those_alone(llm: LLM, stories: Path, files: list[Path]) -> None:
    choices: list[Any] = [None, "happy", {"happy": 0.5, "sad": -1.0, "lora": 1.0}, "late", "lora", {"sad": 1.0}, {}]
    want = []
    for choice in choices:
        with LLM.load(stories, threads=1, n_ctx=256, n_batch=5, speculation=False) as alone:
            for file in files:
                alone.load_adapter(file)
            alone.load_adapter(files[0], name="late", layers=(3, 4))
            want.append(alone.generate(PROMPT, max_tokens=24, sampling=SAMPLED, adapter=choice).tokens)
    assert len(set(want)) == len(choices) - 1
    streams = [llm.stream(PROMPT, max_tokens=24, sampling=SAMPLED, adapter=choice) for choice in choices * 2]
    assert [stream.result().tokens for stream in streams] == want * 2
    ids = llm.prompt_ids(PROMPT)
    assert llm.generate(ids, max_tokens=1, adapter="happy").usage.cached_tokens > 32
    assert llm.generate(ids, max_tokens=1, adapter={"happy": 0.75}).usage.cached_tokens == 0


def test_they_are_loaded_with_the_model_and_known_by_receipts(stories: Path, files: list[Path], llm: LLM) -> None:
    load = [AdapterFile(files[0], 0.5, "glad", (2, 3)), files[2]]
    with LLM.load(stories, threads=1, n_ctx=256, adapters=load) as loaded:
        assert loaded.adapter == {"glad": 0.5, "lora": 1.0}
        glad = loaded.adapters[0]
        assert (glad.rank, glad.alpha, glad.tensors) == (0, 0.0, ("direction.2", "direction.3"))
        done = loaded.generate(PROMPT, max_tokens=8, sampling=SAMPLED, receipt=True)
        receipt = done.receipt()
    assert len({adapter.digest for adapter in llm.adapters} | {glad.digest}) == 5
    with pytest.raises(ReceiptError, match="load them by adapters"):
        verify(llm, receipt)
    llm.load_adapter(files[0], name="any", layers=(2, 3))
    assert verify(llm, receipt).same


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "layer 0": ({"direction.0": np.zeros(WIDTH, np.float32)}, "direction.0.*direction.1 to direction.4"),
    "beyond": ({"direction.5": np.zeros(WIDTH, np.float32)}, "direction.5.*another model"),
    "name": ({"vector.1": np.zeros(WIDTH, np.float32)}, "vector.1.*expected a name"),
    "width": ({"direction.1": np.zeros(WIDTH + 1, np.float32)}, r"direction.1.*\(64,\) in F32, got \(65,\)"),
    "matrix": ({"direction.1": np.zeros((1, WIDTH), np.float32)}, "direction.1.*expected shape"),
    "numbers": ({"direction.1": np.full(WIDTH, np.nan, np.float32)}, "direction.1.*finite"),
    "empty": ({}, "no direction of these layers"),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_do_not_fit_are_refused_by_name(case: str, llm: LLM, tmp_path: Path) -> None:
    vectors, message = CASES[case]
    path = write_vector(tmp_path / "bad.gguf", vectors)
    with pytest.raises(ModelError, match=f"bad.gguf: .*{message}"):
        llm.load_adapter(path)


def test_layers_are_checked(llm: LLM, files: list[Path]) -> None:
    with pytest.raises(ModelError, match="no direction of these layers"):
        llm.load_adapter(files[1], name="x", layers=(4, 4))
    with pytest.raises(ModelError, match="of a control vector, and the file is none"):
        llm.load_adapter(files[2], name="x", layers=(1, 2))
    wrong: Any
    for wrong in ((3, 2), (1,), (1, 2, 3), (-1, 2)):
        with pytest.raises(ValueError, match="layers must be"):
            llm.load_adapter(files[0], name="x", layers=wrong)
    with pytest.raises(ModelError, match="is a control vector, which is loaded beside its model"):
        LLM.load(files[0])
