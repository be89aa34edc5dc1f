"""Every architecture beside an independent implementation: tiny random models, the logits of all positions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from llamaq import LLM
from llamaq.models import ARCHITECTURES

TINY = sorted({(name, tiny) for name, entry in ARCHITECTURES.items() for tiny in entry.tiny})
BOUND = 2e-5
"""Of logits of a few units: two orders in which some hundred products are summed, a few layers deep. A fault of a
formula moves them by a tenth at least."""


@pytest.mark.parametrize(("architecture", "tiny"), TINY)
def test_logits_are_those_of_an_independent_implementation(
    architecture: str, tiny: str, shared: Callable[[str], Path]
) -> None:
    reference = np.load(shared(f"tiny-models/{tiny}.ref.npz"))
    ids = reference["ids"].tolist()
    with LLM.load(shared(f"tiny-models/{tiny}.gguf"), n_ctx=64, threads=1, cache_type="f32") as llm:
        assert llm.metadata["general.architecture"] == architecture
        logits = llm.logits(ids)
        assert np.abs(logits - reference["logits"]).max() < BOUND
        with_chunks = LLM.load(shared(f"tiny-models/{tiny}.gguf"), n_ctx=64, n_batch=5, threads=2, cache_type="f32")
        np.testing.assert_array_equal(with_chunks.logits(ids), logits)
        with_chunks.close()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_its_module_and_its_tests(name: str) -> None:
    entry = ARCHITECTURES[name]
    module = import_module(f"llamaq.models.{entry.module}")
    assert callable(module.read)
    assert callable(module.trace)
    assert entry.tiny
