"""Hugging Face checkpoints, and adapters of PEFT, made into GGUF files."""

from __future__ import annotations

from .adapter import convert_adapter
from .compare import Comparison
from .encoded import OUTTYPES
from .weight_files import is_peft
from .write import convert, convert_projector

__all__ = ["OUTTYPES", "Comparison", "convert", "convert_adapter", "convert_projector", "is_peft"]
