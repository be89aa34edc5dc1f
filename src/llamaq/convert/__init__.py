"""Hugging Face checkpoints made into GGUF files."""

from __future__ import annotations

from .compare import Comparison
from .write import OUTTYPES, convert

__all__ = ["OUTTYPES", "Comparison", "convert"]
