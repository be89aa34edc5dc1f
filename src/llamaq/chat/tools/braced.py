"""Gemma 4: ``<|tool_call>call:f{x:<|"|>a<|"|>,y:1}<tool_call|>``, names without quotes and texts in marks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from llamaq.chat.json_text import read_json
from llamaq.chat.tools.keyed import BRACED, QUOTE
from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.syntax import Syntax

__all__ = ["BracedCalls"]

_BEGIN, _END = "<|tool_call>", "<tool_call|>"
_HEAD = re.compile(r"\s*call:([^{\s]+)\s*(?={)")
_WORD = re.compile(r'("(?:[^"\\]|\\.)*")|([^\s{}\[\],:"]+)(\s*:)?', re.DOTALL)
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}


class BracedCalls(ToolReader):
    """One call between marks; the next one follows at once."""

    marks = (_BEGIN, _END, QUOTE)

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until(_BEGIN, show=self.show)
            if mark is None:
                return
            yield from self._call()
            if not (yield from self.skip()):
                return

    def _call(self) -> Waiting:
        parts: list[str] = []
        mark: str | None = QUOTE
        while mark == QUOTE:  # every second part is a text
            text, mark = yield from self.until(QUOTE, *([] if len(parts) % 2 else [_END]))
            parts.append(text)
        head = _HEAD.match(parts[0])
        if head is not None and not (mark is None and self.cut):
            arguments = _json([parts[0][head.end() :], *parts[1:]])
            if arguments is not None:
                self.begin_call(head[1])
                self.add_arguments(arguments)
                return
        self.show(f"{_BEGIN}{QUOTE.join(parts)}{mark or ''}")

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        return Syntax(f"{_BEGIN}call:$name", _END, between="", style=BRACED)


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
