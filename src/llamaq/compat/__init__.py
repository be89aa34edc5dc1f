"""Interfaces of other libraries on llamaq."""

from __future__ import annotations

import sys
from importlib import import_module

from llamaq.errors import LlamaqError

__all__ = ["install"]


def install() -> None:
    """Puts ``llamaq.compat.llama_cpp`` in the place of the module ``llama_cpp`` for this process, so that frameworks
    that import that find llamaq. Call it before they do; a second call does nothing.

    Raises ``LlamaqError`` where llama-cpp-python itself was imported already.
    """
    ours = import_module("llamaq.compat.llama_cpp")
    other = sys.modules.get("llama_cpp", ours)
    if other is not ours:
        where = getattr(other, "__file__", "?")
        raise LlamaqError(f"llama_cpp was imported already, from {where}; call llamaq.compat.install() before that")
    sys.modules["llama_cpp"] = ours
    for name in ours.SUBMODULES:
        sys.modules[f"llama_cpp.{name}"] = import_module(f"llamaq.compat.llama_cpp.{name}")
