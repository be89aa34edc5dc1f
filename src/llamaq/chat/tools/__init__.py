"""Tool calls read from what a model writes, in the format that its template asks for."""

from __future__ import annotations

from llamaq.chat.tools.choice import ToolChoice, ToolChoiceOption, read_choice
from llamaq.chat.tools.formats import TOOL_FORMATS, format_of, frame_of
from llamaq.chat.tools.reader import ToolReader
from llamaq.chat.tools.syntax import Syntax, calls_structure

__all__ = [
    "TOOL_FORMATS", "Syntax", "ToolChoice", "ToolChoiceOption", "ToolReader", "calls_structure", "format_of",
    "frame_of", "read_choice",
]  # fmt: skip
