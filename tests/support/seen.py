"""Prompts with pictures, as requests of a model that sees, and what is compared of their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq import LLM, _core
from llamaq.gguf import GGUFFile
from llamaq.plan.inserted import Inserted
from llamaq.serving.reading import PromptRequest, wait
from llamaq.vision.encoder import Encoder, traced
from tiny_towers import TOWERS
from vision_cases import EMBEDDED, KEPT, SEEN, SIZE, ids_of, picture, prompt_with

__all__ = ["F32", "encoded", "log_probabilities", "logits_of", "pieces_of", "reading", "recorded_prompt", "rows_of"]

F32 = NDArray[np.float32]


def encoded(path: Path) -> list[F32]:
    """What a projector file alone makes of the first picture: the rows of each tile."""
    with GGUFFile.open(path) as file:
        of = traced(file)
        encoder = Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=1)
        return [piece.rows for piece in encoder.pieces(picture(*SEEN[0][0])) if isinstance(piece, Inserted)]


def pieces_of(llm: LLM, which: int) -> list[list[Any]]:
    """For each picture of a prompt what stands in its place."""
    encoder = llm.model.encoder
    assert encoder is not None
    return [encoder.pieces(picture(*shape, which)) for shape in SEEN[which]]


def rows_of(llm: LLM, which: int) -> list[list[Inserted]]:
    """For each picture of a prompt its tiles."""
    return [[piece for piece in each if isinstance(piece, Inserted)] for each in pieces_of(llm, which)]


def reading(llm: LLM, which: int, first: int = 0) -> PromptRequest:
    """A prompt with pictures; of its rows logits are wanted from number ``first`` on."""
    pieces = pieces_of(llm, which)
    ids = [[id for piece in each for id in (ids_of(piece) if isinstance(piece, str) else piece.ids)] for each in pieces]
    found = PromptRequest(prompt_with(ids), first, share=True)
    found.inserted = tuple(piece for each in pieces for piece in each if isinstance(piece, Inserted))
    return found


def recorded_prompt(llm: LLM, name: str, which: int) -> PromptRequest:
    """The prompt with pictures whose log-probabilities are recorded of a tiny model: with rows alone, unless it is one
    of ``TOWERS``, which have what stands around them, too."""
    if name in TOWERS:
        return reading(llm, which)
    encoder = llm.model.encoder
    assert encoder is not None
    shapes = [(SIZE, SIZE)] if name in EMBEDDED else SEEN[which]
    rows = tuple(encoder.rows(picture(*shape, which)) for shape in shapes)
    found = PromptRequest(prompt_with([[*each.ids] for each in rows]), 0)
    found.inserted = rows
    return found


def logits_of(llm: LLM, *requests: PromptRequest) -> list[F32]:
    return wait(llm.model.scheduler, requests)


def log_probabilities(logits: F32, kept: Any = KEPT) -> F32:
    return np.array([row[kept] - _core.log_sum_exp(row) for row in logits])
