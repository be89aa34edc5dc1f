"""The logger of llama-cpp-python, which some code silences. llamaq's own has the name "llamaq"."""

from __future__ import annotations

import logging

__all__ = ["logger"]

logger = logging.getLogger("llama-cpp-python")
