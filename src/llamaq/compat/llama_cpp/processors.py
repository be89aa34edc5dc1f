"""What callers hand in to change logits or to end an answer, and what a state is saved as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LlamaState",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
]

Ids: TypeAlias = "NDArray[np.int32]"
Logits: TypeAlias = "NDArray[np.float32]"

LogitsProcessor = Callable[[Ids, Logits], Logits]
StoppingCriteria = Callable[[Ids, Logits], bool]


class LogitsProcessorList(list[LogitsProcessor]):
    """Functions of (ids, logits), each of which gets the logits that the one before it gave."""

    def __call__(self, input_ids: Ids, scores: Logits) -> Logits:
        for process in self:
            scores = process(input_ids, scores)
        return scores


class StoppingCriteriaList(list[StoppingCriteria]):
    """Functions of (ids, logits) of which any may end an answer. All are asked, for some count their calls."""

    def __call__(self, input_ids: Ids, logits: Logits) -> bool:
        answers = [criterion(input_ids, logits) for criterion in self]
        return any(answers)


class MinTokensLogitsProcessor:
    """Forbids the end token until there are ``min_tokens``; one answer long."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        self.min_tokens = min_tokens
        self.token_eos = token_eos
        self.prompt_tokens: int | None = None

    def __call__(self, input_ids: Ids, scores: Logits) -> Logits:
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) < self.prompt_tokens + self.min_tokens:
            scores[self.token_eos] = -np.inf
        return scores


@dataclass
class LlamaState:
    """What ``Llama.save_state`` gives: tokens, logits, and the bytes of a file of ``llamaq.Session``."""

    input_ids: Ids
    scores: Logits
    n_tokens: int
    llama_state: bytes
    llama_state_size: int
    seed: int
