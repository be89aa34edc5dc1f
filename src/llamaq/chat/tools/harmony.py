"""gpt-oss: an answer of several messages, each with a header that tells its channel and its recipient."""

from __future__ import annotations

import json
import re
from typing import ClassVar

from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.syntax import Syntax

__all__ = ["HarmonyMessages"]

_OPENERS = ("<|start|>", "<|channel|>")
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CODE = ("python", "code_interpreter")
"""Recipients that get code as it is, without JSON."""


class HarmonyMessages(ToolReader):
    """``<|channel|>analysis<|message|>`` opens reasoning, ``<|channel|>final<|message|>`` the answer, a header with
    ``to=functions.f`` a call, whose body is JSON; ``<|end|>`` ends a message, ``<|start|>assistant`` begins the next.

    What the model says to the user before a call, in the channel "commentary", belongs to the answer.
    """

    marks = (*_OPENERS, "<|message|>", "<|constrain|>", *_ENDS)
    framed: ClassVar[bool] = True
    reasons: ClassVar[bool] = True

    def parse(self) -> Waiting:
        header = yield from self._header_at_once()
        if header is None:  # the prompt ended inside the answer
            _, mark = yield from self.until(*_OPENERS, *_ENDS, show=self.show)
            header = yield from self._next_header(mark)
        while header is not None:
            rest, mark = yield from self.until("<|message|>", *_ENDS)
            if mark != "<|message|>":
                if mark is not None or not self.cut or header not in _OPENERS:
                    self.show(header + rest)
            else:
                mark = yield from self._body(header + rest)
            header = yield from self._next_header(mark)

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        return Syntax(
            "<|channel|>commentary to=functions.$name <|constrain|>json<|message|>",
            opens=("<|channel|>final", "<|message|>"),
            thought=("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant"),
        )

    def _header_at_once(self) -> Waiting:
        """The beginning of a header with which the answer begins, after the prompt's ``<|start|>assistant``."""
        while self.text.isspace() or not self.text:
            if not (yield from self.more()):
                return None
        space = self.text[: len(self.text) - len(self.text.lstrip())]
        return (yield from self.expect(*_OPENERS, f"{space}to="))

    def _next_header(self, mark: str | None) -> Waiting:
        """The mark with which the next message begins; None at the end of the answer."""
        if mark in (None, "<|call|>", "<|return|>"):
            return None
        if mark in _OPENERS:
            return mark
        if not (yield from self.skip()):
            return None
        return (yield from self.expect(*_OPENERS)) or ""

    def _body(self, header: str) -> Waiting:
        recipient = re.search(r"\bto=([^\s<]+)", header)
        reasoning = re.search(r"<\|channel\|>\s*analysis", header) is not None
        name = recipient[1].removeprefix("functions.") if recipient else ""
        known = name in self.parameters or (recipient is not None and recipient[1].startswith("functions."))
        if recipient is None or not self.parameters or not known:
            if reasoning:
                yield from self.skip()
            _, mark = yield from self.until(*_OPENERS, *_ENDS, show=self.think if reasoning else self.show)
            return mark
        yield from self.skip()
        if self.text.startswith("{"):
            self.begin_call(name)
            yield from self.json_value(self.add_arguments)
            _, mark = yield from self.until(*_OPENERS, *_ENDS)
            return mark
        body, mark = yield from self.until(*_OPENERS, *_ENDS)
        cut = mark is None and self.cut
        if name in _CODE and body.strip() and not cut:
            self.begin_call(name)
            self.add_arguments(json.dumps({"code": body.rstrip()}, ensure_ascii=False))
        elif body or not cut:
            self.show(f"{header}<|message|>{body}")
        return mark
