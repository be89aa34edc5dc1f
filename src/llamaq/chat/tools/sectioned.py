"""DeepSeek and Kimi K2: calls between marks, in a section with marks of its own, each a header and JSON."""

from __future__ import annotations

from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.syntax import Syntax

__all__ = ["DeepSeekCalls", "KimiCalls"]


class DeepSeekCalls(ToolReader):
    """DeepSeek V3 and R1: ``<｜tool▁call▁begin｜>function<｜tool▁sep｜>f``, a line end, JSON in a fence,
    ``<｜tool▁call▁end｜>``; V3.1: ``<｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜>``."""

    marks = (
        "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
    )  # fmt: skip
    """What stands around the section, what begins a call, divides and ends it."""

    def parse(self) -> Waiting:
        section, section_end, begin, _, _ = self.marks
        while True:
            _, mark = yield from self.until(section, begin, show=self.show)
            if mark is None:
                return
            if mark == section:
                yield from self.skip()
                if (yield from self.expect(begin)) is None:
                    self.show(section)
                    continue
            yield from self._call()
            yield from self.skip()
            yield from self.expect(section_end)
            if not (yield from self.skip()):
                return

    def _call(self) -> Waiting:
        _, _, begin, divider, end = self.marks
        self.begin_again()
        header, mark = yield from self.until(divider, end)
        name, id = self.named(header.strip())
        fenced = mark == divider and (yield from self.skip()) and not self.text.startswith("{")
        if fenced:
            line, mark = yield from self.until("\n", end)
            name, id = line.strip(), None
            yield from self.skip()
            yield from self.expect("```json", "```")
            yield from self.skip()
        if mark in (None, end) or not name or not self.text.startswith("{"):
            self.show(begin + "".join(self._taken))
            return
        self.begin_call(name, id)
        yield from self.json_value(self.add_arguments)
        yield from self.skip()
        yield from self.expect("```")
        yield from self.skip()
        yield from self.expect(end)

    def named(self, header: str) -> tuple[str, str | None]:
        """The function that a header names, and the call's id where it has one."""
        return header, None

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        section, section_end, begin, divider, end = cls.marks
        if "```json" in template:
            head, tail, between = f"{begin}function{divider}$name\n```json\n", f"\n```{end}", "\n"
        else:
            head, tail, between = f"{begin}$name{divider}", end, ""
        return Syntax(head, tail, before=section, between=between, after=section_end)


class KimiCalls(DeepSeekCalls):
    """Kimi K2: ``<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>``; the header is
    the call's id."""

    marks = (
        "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>", "<|tool_call_end|>",
    )  # fmt: skip

    def named(self, header: str) -> tuple[str, str | None]:
        name = header.removeprefix("functions.")
        return name.rpartition(":")[0] or name, header

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        section, section_end, begin, divider, end = cls.marks
        return Syntax(f"{begin}functions.$name:0{divider}", end, before=section, after=section_end)
