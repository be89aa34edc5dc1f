"""Files with one defect each, taken all the way to a loaded model: a clear error, or a model that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamaq.errors import LlamaqError
from llamaq.llm.llm import LLM
from shared_files import SHARED

MANIFEST = SHARED / "gguf-torture" / "manifest.json"
DEFECTS = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {"absent": {"expect": "accept"}}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_damaged_file_is_an_error_or_runs(shared: Callable[[str], Path], name: str) -> None:
    path = shared("gguf-torture") / f"{name}.gguf"
    expect = DEFECTS[name]["expect"]
    error = None
    try:
        with LLM.load(path, threads=1) as llm:
            logits = llm.logits([1, 2, 3])
            assert logits.shape == (3, llm.hparams.vocab_size)
    except LlamaqError as refusal:
        error = str(refusal)
    if error is None:
        assert expect != "reject"
    else:
        assert expect != "accept"
        assert str(path) in error
        assert "\n" not in error
