"""Hugging Face checkpoints, and adapters of PEFT, made into GGUF files."""

from __future__ import annotations

from .adapter import convert_adapter
from .compare import Comparison
from .weight_files import is_peft
from .write import OUTTYPES, convert

__all__ = ["OUTTYPES", "Comparison", "convert", "convert_adapter", "is_peft"]
