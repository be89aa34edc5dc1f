"""What a model file is worth: perplexity, divergence from another, which columns matter, how far weights are off."""

from __future__ import annotations

from .importance import collect_importance
from .perplexity import Perplexity, perplexity
from .text import chunks_of, log_sums, scored_from

__all__ = ["Perplexity", "chunks_of", "collect_importance", "log_sums", "perplexity", "scored_from"]
