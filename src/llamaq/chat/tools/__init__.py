"""Tool calls read from what a model writes, in the format that its template asks for."""

from __future__ import annotations

from llamaq.chat.tools.formats import TOOL_FORMATS, format_of, frame_of
from llamaq.chat.tools.reader import ToolReader

__all__ = ["TOOL_FORMATS", "ToolReader", "format_of", "frame_of"]
