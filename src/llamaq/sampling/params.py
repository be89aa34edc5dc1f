"""The settings of sampling: one frozen dataclass, names and defaults as in llama.cpp."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .order import DEFAULT_ORDER, parse_order

if TYPE_CHECKING:
    from llamaq.structure import Structure

__all__ = ["LogitProcessor", "SamplingParams"]

LogitProcessor: TypeAlias = Callable[[NDArray[np.int32], NDArray[np.float32]], "NDArray[np.float32] | None"]
"""Gets the ids of all tokens so far and the logits (vocabulary,); changes them in place or returns others."""

_LARGE = 1e30  # no setting that makes sense is larger, and sums of it stay numbers

_RANGES = {
    "temperature": (-_LARGE, _LARGE),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-_LARGE, _LARGE),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "repeat_penalty": (1e-6, 1e6),
    "presence_penalty": (-1e6, 1e6),
    "frequency_penalty": (-1e6, 1e6),
    "dry_multiplier": (0.0, 1e6),
    "dry_base": (1.0, 1e6),
    "dynatemp_range": (0.0, _LARGE),
    "dynatemp_exponent": (0.0, 1e6),
    "mirostat_tau": (0.0, 1e6),
    "mirostat_eta": (0.0, 1e6),
    "adaptive_target": (-1.0, 1.0),
    "adaptive_decay": (0.0, 0.99),
}
_LEAST = {
    "top_k": 0,
    "min_keep": 0,
    "repeat_last_n": -1,
    "dry_allowed_length": 1,
    "dry_penalty_last_n": -1,
    "mirostat": 0,
    "min_tokens": 0,
    "seed": 0,
    "logprobs": 0,
}


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. docs/sampling.md has what each sampler does; the defaults are llama.cpp's.

    The samplers run in the order of ``samplers`` (names, ``"top_k;temperature"`` or letters, ``"kt"``) on logits to
    which ``logit_processors`` and then ``logit_bias`` (token id to number, -inf forbids) were applied. What is 0
    turns off ``top_k``, ``min_p``, ``xtc_probability``, ``dry_multiplier``, ``dynatemp_range``, ``mirostat``, the
    ``presence_penalty`` and the ``frequency_penalty``; what is 1, ``top_p``, ``typical_p`` and the
    ``repeat_penalty``; a negative number ``top_n_sigma`` (0 too) and ``adaptive_target``. ``temperature`` 0 or less
    takes the most likely token. Windows (``repeat_last_n``, ``dry_penalty_last_n``) count tokens, prompt included; -1
    is all of them. ``mirostat`` 1 or 2 takes the place of the whole chain but the temperature.

    ``seed`` None draws a random one; ``logprobs`` asks for log-probabilities of the model, before any sampler, and
    of so many most likely tokens; ``min_tokens`` are generated before an end token may come, and ``ignore_eos``
    lets none come. ``structure`` (made by ``llamaq.structure``) says what the text must match.

    Raises ``ValueError`` for a value out of range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    min_keep: int = 0
    samplers: str | Sequence[str] = DEFAULT_ORDER
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    logit_processors: Sequence[LogitProcessor] = ()
    seed: int | None = None
    logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    structure: Structure | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.mirostat > 2:
            raise ValueError(f"mirostat must be 0 (off), 1 or 2, got {self.mirostat}")
        object.__setattr__(self, "samplers", parse_order(self.samplers))
        object.__setattr__(self, "dry_sequence_breakers", tuple(self.dry_sequence_breakers))
        object.__setattr__(self, "logit_processors", tuple(self.logit_processors))
        object.__setattr__(self, "logit_bias", {int(id): float(bias) for id, bias in self.logit_bias.items()})
        for id, bias in self.logit_bias.items():
            if id < 0 or not (bias == -math.inf or abs(bias) <= 1e6):
                raise ValueError(f"logit_bias must map token ids to numbers up to 1e6 (or -inf), got {id}: {bias}")

    def nth(self, index: int) -> SamplingParams:
        """The settings of answer ``index`` of several to one prompt: the seed goes up by one with each."""
        return self if self.seed is None else replace(self, seed=self.seed + index)
