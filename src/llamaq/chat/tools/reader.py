"""The frame in which tool calls are read as a model writes them: parsers that wait for text where they need it.

A parser is a generator. It looks at ``self.text``, takes what it has understood, and yields where it needs more; so
each format is written as one would write it for a whole text.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from llamaq.chat.json_text import read_json
from llamaq.chat.messages import ChatEvent, ToolCallDelta
from llamaq.chat.reasoning import overlap
from llamaq.chat.tools.syntax import Syntax

__all__ = ["ToolReader", "Waiting"]

Waiting: TypeAlias = Generator[None, None, Any]


class ToolReader(ABC):
    """Tells an answer's text from its tool calls. ``tools`` are the definitions that the model was given.

    What is no call after all comes out as text, so nothing that the model wrote is lost.
    """

    marks: ClassVar[tuple[str, ...]] = ()
    """Texts that may be control tokens; the decoder must show them."""
    framed: ClassVar[bool] = False
    """Whether answers without calls have marks around them, too."""
    reasons: ClassVar[bool] = False
    """Whether the format has reasoning of its own, which this tells from the answer."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        functions = [tool.get("function", tool) for tool in tools]
        self.parameters = {f["name"]: _properties(f) for f in functions}
        self.text = ""
        self.cut = False
        """Whether the answer ends because it was stopped, so what has no end yet is no call."""
        self._ended = False
        self._pieces: list[ChatEvent] = []
        self._calls = 0
        self._taken: list[str] = []
        self._parser = self.parse()
        next(self._parser, None)

    def push(self, text: str) -> list[ChatEvent]:
        """Takes the next piece of the answer; what is clear now."""
        self.text += text
        if next(self._parser, self) is self:  # it has read all that it wants
            self.show(self.take(len(self.text)))
        pieces, self._pieces = self._pieces, []
        return pieces

    def flush(self, *, cut: bool = False) -> list[ChatEvent]:
        """What was held back, once nothing can follow; ``cut`` where the model had not come to its end."""
        self._ended, self.cut = True, cut
        return self.push("")

    @abstractmethod
    def parse(self) -> Waiting:
        """Reads the whole answer."""

    def show(self, text: str) -> None:
        """``text`` belongs to the answer."""
        if text:
            self._pieces.append(ChatEvent(text=text))

    def think(self, text: str) -> None:
        """``text`` is what the model wrote for itself."""
        if text:
            self._pieces.append(ChatEvent(reasoning=text))

    def begin_call(self, name: str, id: str | None = None) -> None:
        """A call of this function, whose id may be the model's; its arguments follow."""
        self._pieces.append(ChatEvent(tool_call=ToolCallDelta(self._calls, id=id or self.new_id(), name=name)))
        self._calls += 1

    def add_arguments(self, text: str) -> None:
        """JSON text of the arguments of the latest call."""
        if text:
            self._pieces.append(ChatEvent(tool_call=ToolCallDelta(self._calls - 1, text)))

    @classmethod
    @abstractmethod
    def syntax(cls, template: str) -> Syntax:
        """How a model with this template writes calls, to hold it to them."""

    @classmethod
    def written(cls, calls: Sequence[Mapping[str, Any]]) -> str | None:
        """Calls (in OpenAI's shape) as the model writes them, where its templates leave them out of earlier turns."""
        return None

    def new_id(self) -> str:
        return f"call_{secrets.token_hex(8)}"

    def take(self, count: int) -> str:
        """Takes characters from what has come."""
        taken, self.text = self.text[:count], self.text[count:]
        self._taken.append(taken)
        return taken

    def begin_again(self) -> None:
        """What is taken from here on can be given back."""
        self._taken.clear()

    def give_back(self) -> None:
        """Puts back what has been taken since ``begin_again``."""
        self.text = "".join(self._taken) + self.text

    def more(self) -> Waiting:
        """Waits for text; False at the end of the answer."""
        if self._ended:
            return False
        before = len(self.text)
        while len(self.text) == before and not self._ended:
            yield
        return len(self.text) > before

    def skip(self, characters: str = " \t\r\n") -> Waiting:
        """Drops these characters; waits for one that is another. False at the end."""
        while True:
            self.take(len(self.text) - len(self.text.lstrip(characters)))
            if self.text:
                return True
            if not (yield from self.more()):
                return False

    def expect(self, *marks: str) -> Waiting:
        """Takes the mark that comes next, the longest one; None where something else does."""
        while any(mark.startswith(self.text) and mark != self.text for mark in marks) and (yield from self.more()):
            pass
        found = max((mark for mark in marks if self.text.startswith(mark)), key=len, default="")
        return self.take(len(found)) or None

    def until(self, *marks: str, show: Callable[[str], None] | None = None) -> Waiting:
        """Takes text up to the first of the marks, and that; (text, mark), the mark None at the end of the answer.

        With ``show`` the text is handed out as it comes, without white space that ends before a mark.
        """
        while True:
            found = min(((at, mark) for mark in marks if (at := self.text.find(mark)) >= 0), default=None)
            if found is not None:
                before = self.take(found[0])
                self.take(len(found[1]))
                if show is not None:
                    show(before.rstrip())
                return before, found[1]
            if show is not None:
                safe = self.text[
                    : len(self.text) - max((overlap(self.text, mark) for mark in marks), default=0)
                ].rstrip()
                show(self.take(len(safe)))
            if not (yield from self.more()):
                if show is not None:
                    show(self.text)
                return self.take(len(self.text)), None

    def json_value(self, show: Callable[[str], None]) -> Waiting:
        """Hands out one JSON value as it comes; False where the answer ends before the value does."""
        depth, quoted, escaped = 0, False, False
        while True:
            for at, character in enumerate(self.text):
                if quoted:
                    quoted = escaped or character != '"'
                    escaped = character == "\\" and not escaped
                elif character == '"':
                    quoted = True
                elif character in "{[":
                    depth += 1
                elif character in "}]":
                    depth -= 1
                elif depth or character not in ", \t\r\n":
                    continue
                if quoted or depth > 0:
                    continue
                show(self.take(at + (depth == 0 and character in '"}]')))
                return True
            show(self.take(len(self.text)))
            if not (yield from self.more()):
                return False

    def json_text(self) -> Waiting:
        """One JSON value, read to its end: the value, or None where it is none."""
        parts: list[str] = []
        yield from self.json_value(parts.append)
        try:
            return read_json("".join(parts))
        except (ValueError, RecursionError):
            return None

    def json_call(self, before: str = "") -> Waiting:
        """Takes ``{"name": ..., "arguments": {...}}`` (or "function", "tool_name", "parameters") as a call; False where
        it ends too early.

        Where no name comes it is text, after the mark ``before`` it.
        """
        self.begin_again()
        calls = self._calls
        complete = yield from self._json_members()
        if self._calls == calls:
            self.show(before + "".join(self._taken))
        return complete

    def json_calls(self, before: str = "") -> Waiting:
        """Takes a list of such calls; what is none is text, after the mark ``before`` it."""
        self.take(1)
        if ((yield from self.skip()) and self.text[0] not in "{]") or not self.text:
            self.show(f"{before}[")
            return
        while (yield from self.skip(", \t\r\n")) and self.text.startswith("{"):
            if not (yield from self.json_call()):
                return
        yield from self.expect("]")

    def _json_members(self) -> Waiting:
        name, waiting, given = None, "", False
        if (yield from self.expect("{")) is None:
            return False
        while (yield from self.skip(", \t\r\n")) and self.text[0] == '"':
            key = yield from self.json_text()
            yield from self.skip()
            if (yield from self.expect(":")) is None or not (yield from self.skip()):
                return False
            if key in ("name", "function", "tool_name") and name is None:
                value = yield from self.json_text()
                if isinstance(value, str):
                    name = value
                    self.begin_call(name)
                    self.add_arguments(waiting)
            elif key in ("arguments", "parameters"):
                given = True
                parts: list[str] = []
                streams = name is not None and self.text[0] == "{"
                yield from self.json_value(self.add_arguments if streams else parts.append)
                waiting = _object("".join(parts))
                if name is not None:
                    self.add_arguments(waiting)
            else:
                yield from self.json_text()
        complete = (yield from self.expect("}")) is not None
        if complete and name is not None and not given:
            self.add_arguments("{}")
        return complete


def _properties(function: Mapping[str, Any]) -> Mapping[str, Any]:
    found = function.get("parameters") or {}
    properties: Mapping[str, Any] = found.get("properties") or {}
    return properties


def _object(arguments: str) -> str:
    """Arguments that a model wrote as a string of JSON, as JSON; null is none."""
    if arguments == "null":
        return "{}"
    if arguments.startswith('"'):
        try:
            return str(read_json(arguments))
        except (ValueError, RecursionError):
            pass
    return arguments
