"""How logits become the next token: settings, the chain of samplers, structure, log-probabilities."""

from __future__ import annotations

from .order import DEFAULT_ORDER, SAMPLER_LETTERS
from .params import LogitProcessor, SamplingParams
from .sampler import Sampler

__all__ = ["DEFAULT_ORDER", "SAMPLER_LETTERS", "LogitProcessor", "Sampler", "SamplingParams"]
