"""Prompts with pictures for the tiny Llama 3.2 Vision, for tests and for what records their expected values."""

from __future__ import annotations

import numpy as np

from llamaq import LLM
from llamaq.plan.inserted import LookedAt
from llamaq.serving.reading import PromptRequest
from llamaq.vision.encoder import Encoder
from vision_cases import picture

__all__ = ["IMAGE", "PROMPTS", "SIDES", "encoder_of", "ids_of", "pieces", "reading"]

IMAGE = 64
"""The id of the token that stands for a picture."""
SIDES = [(28, 28), (56, 28), (28, 56), (56, 56), (112, 28), (28, 84)]
"""Width and height of pictures, whole tiles: one, two side by side, two on top of each other, four, ..."""
PROMPTS: dict[str, tuple[int | None, ...]] = {
    **{f"picture {i} first": (i, None) for i in range(len(SIDES))},
    "text alone": (None,),
    "text before": (None, 1, None),
    "one and then another": (None, 2, None, 3, None),
    "side by side": (None, 0, 1, None),
    "three, two of them side by side": (4, None, 1, 2, None),
    "the same one twice": (1, None, 1, None),
}
"""Numbers of pictures, and None for some text."""


def ids_of(name: str, pictures: dict[int, int] | None = None) -> list[int]:
    """Ids of a prompt; a picture has the id ``IMAGE``, or its own in ``pictures``."""
    rng = np.random.default_rng(3)
    ids: list[int] = []
    for part in PROMPTS[name]:
        if part is None:
            ids += rng.integers(3, 60, 6).tolist()
        else:
            ids.append(IMAGE if pictures is None else pictures[part])
    return ids


def encoder_of(llm: LLM) -> Encoder:
    assert llm.model.encoder is not None
    return llm.model.encoder


def pieces(encoder: Encoder, name: str) -> dict[int, LookedAt]:
    """The pictures of a prompt, by their numbers."""
    found = {}
    for i in {i for i in PROMPTS[name] if i is not None}:
        (piece,) = encoder.pieces(picture(*SIDES[i], i))
        assert isinstance(piece, LookedAt)
        found[i] = piece
    return found


def reading(llm: LLM, name: str, first: int = 0) -> PromptRequest:
    """A prompt; of its rows logits are wanted from number ``first`` on."""
    found = pieces(encoder_of(llm), name)
    request = PromptRequest(ids_of(name, {i: piece.first for i, piece in found.items()}), first, share=True)
    request.inserted = tuple(found.values())
    return request
