"""What a model file is worth: perplexity, divergence from another, which columns matter, how far weights are off."""

from __future__ import annotations

from .comparison import Report, compare, store_report
from .divergence import Divergence, divergence
from .importance import collect_importance
from .perplexity import Perplexity, perplexity
from .picture import picture
from .text import chunks_of, log_sums, scored_from
from .weights import WeightError, relative_error, weight_errors

__all__ = [
    "Divergence",
    "Perplexity",
    "Report",
    "WeightError",
    "chunks_of",
    "collect_importance",
    "compare",
    "divergence",
    "log_sums",
    "perplexity",
    "picture",
    "relative_error",
    "scored_from",
    "store_report",
    "weight_errors",
]
