"""Vectors and scores of many texts, a few texts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["scores_of", "vectors_of"]

_MOST_TOKENS = 8192
"""Of texts that are read together: the model keeps what it makes of each of their tokens until all have been read."""


async def vectors_of(llm: LLM, texts: Sequence[list[int]], **options: Any) -> NDArray[np.float32]:
    """As ``LLM.aembed`` gives them."""
    found = [await llm.aembed(part, **options) for part in _parts(texts, [*map(len, texts)])]
    return np.concatenate(found) if found else np.empty((0, llm.hparams.width), np.float32)


async def scores_of(llm: LLM, query: str, documents: Sequence[str], counts: Sequence[int]) -> list[float]:
    """As ``LLM.arerank`` gives them; ``counts`` are the tokens of each."""
    return [float(score) for part in _parts(documents, counts) for score in await llm.arerank(query, part)]


def _parts(texts: Sequence[Any], counts: Sequence[int]) -> Iterator[list[Any]]:
    """Texts in order, as many together as have so few tokens, one at least."""
    part: list[Any] = []
    tokens = 0
    for text, count in zip(texts, counts, strict=True):
        if part and tokens + count > _MOST_TOKENS:
            yield part
            part, tokens = [], 0
        part.append(text)
        tokens += count
    if part:
        yield part
