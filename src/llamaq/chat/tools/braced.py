"""Gemma 4: ``<|tool_call>call:f{x:<|"|>a<|"|>,y:1}<tool_call|>``, names without quotes and texts in marks.
FunctionGemma writes the same with marks of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import ClassVar

from llamaq.chat.json_text import read_json
from llamaq.chat.tools.keyed import BRACED, ESCAPED
from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.style import Style
from llamaq.chat.tools.syntax import Syntax

__all__ = ["BracedCalls", "EscapedCalls"]

_HEAD = re.compile(r"\s*call:([^{\s]+)\s*(?={)")
_WORD = re.compile(r'("(?:[^"\\]|\\.)*")|([^\s{}\[\],:"]+)(\s*:)?', re.DOTALL)
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}


class BracedCalls(ToolReader):
    """One call between marks; the next one follows at once."""

    marks = ("<|tool_call>", "<tool_call|>", '<|"|>')
    """What begins a call, what ends it, and what stands around a text."""
    style: ClassVar[Style] = BRACED

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until(self.marks[0], show=self.show)
            if mark is None:
                return
            yield from self._call()
            if not (yield from self.skip()):
                return

    def _call(self) -> Waiting:
        begin, end, quote = self.marks
        parts: list[str] = []
        mark: str | None = quote
        while mark == quote:  # every second part is a text
            text, mark = yield from self.until(quote, *([] if len(parts) % 2 else [end]))
            parts.append(text)
        head = _HEAD.match(parts[0])
        if head is not None and not (mark is None and self.cut):
            arguments = _json([parts[0][head.end() :], *parts[1:]])
            if arguments is not None:
                self.begin_call(head[1])
                self.add_arguments(arguments)
                return
        self.show(f"{begin}{quote.join(parts)}{mark or ''}")

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        begin, end, _ = cls.marks
        return Syntax(f"{begin}call:$name", end, between="", style=cls.style)


class EscapedCalls(BracedCalls):
    """FunctionGemma: ``<start_function_call>call:f{x:<escape>a<escape>}<end_function_call>``."""

    marks = ("<start_function_call>", "<end_function_call>", "<escape>")
    style = ESCAPED


def _json(parts: Sequence[str]) -> str | None:
    """Arguments as JSON; None where they are none."""
    try:
        text = "".join(json.dumps(part) if at % 2 else _WORD.sub(_quoted, part) for at, part in enumerate(parts))
        found = read_json(text)
    except (ValueError, RecursionError):
        return None
    return json.dumps(found, ensure_ascii=False) if isinstance(found, dict) else None


def _quoted(word: re.Match[str]) -> str:
    text, bare, colon = word.groups()
    if text is not None:
        return str(text)
    return f"{json.dumps(bare)}:" if colon else _CONSTANTS.get(bare, bare)
