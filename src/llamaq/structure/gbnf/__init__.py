"""GBNF, llama.cpp's notation for grammars, made into Lark for llguidance."""

from __future__ import annotations

from .lark import gbnf_to_lark

__all__ = ["gbnf_to_lark"]
