"""NumPy specification of GGUF's tensor formats, by ggml type number."""

from __future__ import annotations

from .table import FORMATS, Format, format_by_name

__all__ = ["FORMATS", "Format", "format_by_name"]
