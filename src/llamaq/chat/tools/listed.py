"""Granite 3, Phi-4-mini, Command R and Nemotron Nano 2: calls as a list of JSON objects after a mark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.syntax import Syntax

__all__ = ["ActionCalls", "CommandCalls", "ListedCalls", "NemotronCalls"]


class ListedCalls(ToolReader):
    """Granite 3 and Phi-4-mini: ``<|tool_call|>[{"name": "f", "arguments": {...}}]``.

    The answer may be between ``<response>`` and ``</response>``, as Granite 3 frames it after its reasoning.
    """

    marks = ("<|tool_call|>", "<|/tool_call|>", "<tool_call>", "</tool_call>")
    framed: ClassVar[bool] = True

    def parse(self) -> Waiting:
        opened = yield from self._response()
        ends = ("</response>",) if opened else ()
        begins = ("<|tool_call|>", "<tool_call>") if self.parameters else ()
        while True:
            _, mark = yield from self.until(*begins, *ends, show=self.show)
            if mark is None or not (yield from self.skip()):
                self.show(mark if mark not in (None, *ends) else "")
                return
            if mark in ends:
                continue
            if self.text.startswith("["):
                yield from self.json_calls(mark)
            elif self.text.startswith("{"):
                yield from self.json_call(mark)
            else:
                self.show(mark)
                continue
            yield from self.skip()
            yield from self.expect("<|/tool_call|>", "</tool_call>")
            yield from self.skip()

    def _response(self) -> Waiting:
        while not self.text.strip() and (yield from self.more()):
            pass
        space = self.text[: len(self.text) - len(self.text.lstrip())]
        if (yield from self.expect(f"{space}<response>")):
            yield from self.skip()
            return True
        return False

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        end = "<|/tool_call|>" if "<|/tool_call|>" in template else ""
        return Syntax('{"name": "$name", "arguments": ', "}", before="<|tool_call|>[", between=", ", after=f"]{end}")

    @classmethod
    def written(cls, calls: Sequence[Mapping[str, Any]]) -> str | None:
        listed = [{key: call["function"].get(key) for key in ("name", "arguments")} for call in calls]
        return f"<|tool_call|>{json.dumps(listed, ensure_ascii=False)}"


class ActionCalls(ToolReader):
    """Command R7B, Command A: ``<|START_ACTION|>[{"tool_name": "f", "parameters": {...}}]<|END_ACTION|>``, and answers
    between ``<|START_RESPONSE|>`` (or ``TEXT``) and its end."""

    _FRAME = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>", "<|END_ACTION|>")
    marks = ("<|START_ACTION|>", *_FRAME)
    framed: ClassVar[bool] = True

    def parse(self) -> Waiting:
        begins = ("<|START_ACTION|>",) if self.parameters else ()
        while True:
            _, mark = yield from self.until(*begins, *self._FRAME, show=self.show)
            if mark is None or not (yield from self.skip()):
                self.show(mark if mark == "<|START_ACTION|>" else "")
                return
            if mark != "<|START_ACTION|>":
                continue
            if self.text.startswith("["):
                yield from self.json_calls(mark)
            else:
                self.show(mark)

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        kind = "TEXT" if "<|START_TEXT|>" in template and "<|START_RESPONSE|>" not in template else "RESPONSE"
        return Syntax(
            '{"tool_call_id": "0", "tool_name": "$name", "parameters": ', "}",
            before="<|START_ACTION|>[\n    ", between=",\n    ", after="\n]<|END_ACTION|>",
            opens=(f"<|START_{kind}|>",), closes=f"<|END_{kind}|>",
            thought=("<|START_THINKING|>", "<|END_THINKING|>", ""),
        )  # fmt: skip


class NemotronCalls(ToolReader):
    """Nemotron Nano 2: ``<TOOLCALL>[{"name": "f", "arguments": {...}}]</TOOLCALL>``."""

    marks = ("<TOOLCALL>", "</TOOLCALL>")

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until("<TOOLCALL>", show=self.show)
            if mark is None:
                return
            yield from self.skip()
            if not self.text.startswith("["):
                self.show(mark)
                continue
            yield from self.json_calls(mark)
            yield from self.skip()
            yield from self.expect("</TOOLCALL>")
            yield from self.skip()

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        head = '{"name": "$name", "arguments": '
        return Syntax(head, "}", before="<TOOLCALL>[", between=", ", after="]</TOOLCALL>")


class CommandCalls(ToolReader):
    """Command R and R+: ``Action:`` and a fenced list of ``{"tool_name": "f", "parameters": {...}}``."""

    def parse(self) -> Waiting:
        while True:
            before, mark = yield from self.until("Action:", show=self.show)
            if mark is None:
                return
            self.begin_again()
            yield from self.skip()
            if (yield from self.expect("```json", "```")) and (yield from self.skip()) and self.text[0] == "[":
                yield from self.json_calls("Action: ```json\n")
                yield from self.skip()
                yield from self.expect("```")
                yield from self.skip()
            else:
                self.show(before[len(before.rstrip()) :] + mark)
                self.give_back()

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        head = '{\n        "tool_name": "$name",\n        "parameters": '
        return Syntax(head, "\n    }", before="Action: ```json\n[\n    ", between=",\n    ", after="\n]```")
