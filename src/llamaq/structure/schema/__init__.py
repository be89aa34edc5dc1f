"""JSON schemas for llguidance, with llama.cpp's habits added: what it lacks is put into what it has, or named."""

from __future__ import annotations

from .compiling import Compiled, compile_schema, translate_schema
from .constraints import WHITESPACE
from .reading import schema_text

__all__ = ["WHITESPACE", "Compiled", "compile_schema", "schema_text", "translate_schema"]
