"""Weights that are not numbers: whatever is asked of such a model is one error, not NaN and no warning of NumPy."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, GGUFFile
from llamaq.errors import ModelError

ASKED: dict[str, Callable[[LLM], Any]] = {
    "generate": lambda llm: llm.generate("Once upon a time", max_tokens=2),
    "stream": lambda llm: list(llm.stream("Once upon a time", max_tokens=2)),
    "batch": lambda llm: llm.batch(["Once upon a time"], max_tokens=2),
    "extend": lambda llm: llm.session().extend("Once upon a time"),
    "logits": lambda llm: llm.logits("Once upon a time"),
    "forward": lambda llm: llm.forward("Once upon a time", capture=["hidden", "attention"]),
    "score": lambda llm: llm.score("Once upon a time"),
    "score after": lambda llm: llm.score(" a time", prompt="Once upon"),
    "ascore": lambda llm: asyncio.run(llm.ascore("Once upon a time")),
    "embed": lambda llm: llm.embed("Once upon a time"),
    "aembed": lambda llm: asyncio.run(llm.aembed("Once upon a time", normalize=False)),
}


def damaged(source: Path, target: Path, name: str, at: int, value: float) -> Path:
    """A copy of a file of float32 weights in which one is ``value``."""
    with GGUFFile.open(source) as file:
        offset = file.tensors[name].offset
    content = bytearray(source.read_bytes())
    content[offset + 4 * at : offset + 4 * at + 4] = np.array([value], "<f4").tobytes()
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.2.ffn_down.weight", "blk.4.ffn_norm.weight"])
def test_a_damaged_weight_is_one_error_whatever_is_asked(
    shared: Callable[[str], Path], tmp_path: Path, name: str, value: float
) -> None:
    path = damaged(shared("models/stories260K-F32.gguf"), tmp_path / "damaged.gguf", name, 0, value)
    with warnings.catch_warnings(), LLM.load(path, threads=1, n_ctx=64) as llm:
        warnings.simplefilter("error")
        for ask in ASKED.values():
            with pytest.raises(ModelError, match=r"gave (logits|states) that are not numbers: weights in its file"):
                ask(llm)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_damaged_last_norm(shared: Callable[[str], Path], tmp_path: Path, value: float) -> None:
    """The states before it are sound."""
    path = damaged(shared("models/stories260K-F32.gguf"), tmp_path / "damaged.gguf", "output_norm.weight", 3, value)
    with warnings.catch_warnings(), LLM.load(path, threads=1, n_ctx=64) as llm:
        warnings.simplefilter("error")
        for ask in ASKED.values():
            with pytest.raises(ModelError, match="not numbers"):
                ask(llm)
