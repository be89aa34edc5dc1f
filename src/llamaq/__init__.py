"""llamaq runs GGUF language models on ordinary CPUs."""

from __future__ import annotations

from llamaq.errors import LlamaqError

__version__ = "0.1.0"
__all__ = ["LlamaqError", "__version__"]
