"""Reading GBNF. Source of the notation: llama.cpp's grammars/README.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from llamaq.errors import StructureError
from llamaq.structure.engine import printable

from .shortest import nodes, shortest
from .tree import ALL, Alternatives, Chars, Node, Reference, Repeat, Sequence, Token, complement, union

__all__ = ["TokenId", "parse"]

TokenId = Callable[[str], "int | None"]
"""Id of a token by its text."""

_MOST_REPEATS = 2000  # llama.cpp has the same limit
_DEEPEST = 100
_LARGEST = 100_000  # characters, classes, groups and references; a second or two of work
_LONGEST = 100_000  # characters of a text that leaves no choice, since all of them are read at once
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^"}
_HEX = {"x": 2, "u": 4, "U": 8}
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REPEAT = re.compile(r"\{\s*([0-9]{1,9})\s*(,)?\s*([0-9]{0,9})\s*\}")
_TOKEN = re.compile(r"(!?)<(?:\[([0-9]{1,9})\]|([^>\r\n]+))>")


def parse(text: str, token_id: TokenId | None = None) -> dict[str, Node]:
    """The rules of a grammar by name; there is one called root, and all that are referred to.

    ``token_id`` finds tokens written as ``<text>``; without it they count as token 0.

    Raises ``StructureError`` with the line of what is wrong.
    """
    return _Parser(text, token_id).rules()


class _Parser:
    def __init__(self, text: str, token_id: TokenId | None) -> None:
        self._text = text
        self._token_id = token_id
        self._at = 0
        self._depth = 0
        self._size = 0
        self._rule = ""
        self._references: dict[str, tuple[int, str]] = {}  # place and rule of the first reference to each

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            self._rule = name = self._match(_NAME, "the name of a rule")[0]
            self._grow()
            self._skip(_SPACE)
            if not self._take("::="):
                self._fail("expected ::= after the name of a rule")
            self._skip(_SPACE_AND_LINES)
            if name in rules:
                self._fail("the rule is defined twice")
            rules[name] = self._alternatives(nested=False)
            self._skip(_SPACE)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._fail(f"unexpected {self._text[self._at]!r}")
            self._skip(_SPACE_AND_LINES)
        self._rule = ""
        if "root" not in rules:
            self._fail("there is no rule called root, which the text begins with")
        for name, (at, rule) in self._references.items():
            if name not in rules:
                self._at, self._rule = at, rule
                self._fail(f"there is no rule called {name}")
        self._check_lengths(rules)
        return rules

    def _check_lengths(self, rules: dict[str, Node]) -> None:
        """Every rule that counts matches some text, and no part of one only texts that are too long."""
        found = shortest(rules)
        places = {"root": 0, **{name: at for name, (at, _) in self._references.items()}}
        for name, at in places.items():
            self._at, self._rule = at, name
            if rules[name] not in found:
                self._fail("no text can match it: each alternative refers back to the rule")
            if any(found.get(node, 0) > _LONGEST for node in nodes(rules[name])):
                self._fail(f"a text that matches a part of it has more than {_LONGEST} characters")

    def _alternatives(self, *, nested: bool) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"groups are nested deeper than {_DEEPEST}")
        items = [self._sequence(nested=nested)]
        while self._take("|"):
            self._grow()
            self._skip(_SPACE_AND_LINES)
            items.append(self._sequence(nested=nested))
        self._depth -= 1
        return items[0] if len(items) == 1 else Alternatives(tuple(items))

    def _sequence(self, *, nested: bool) -> Node:
        space = _SPACE_AND_LINES if nested else _SPACE
        items: list[Node] = []
        while (item := self._item()) is not None:
            self._grow()
            self._skip(space)
            repeat = self._repeat(item)
            self._skip(space)
            if repeat is not None and self._repeat(item) is not None:
                self._fail("what is repeated twice needs parentheses")
            items.append(item if repeat is None else repeat)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self) -> Node | None:
        if self._take('"'):
            chars: list[Node] = []
            while not self._take('"'):
                self._grow()
                code = self._char()
                chars.append(Chars(((code, code),)))
            return Sequence(tuple(chars))
        if self._take("["):
            return self._char_class()
        if self._take("."):
            return Chars(ALL)
        if self._take("("):
            self._skip(_SPACE_AND_LINES)
            node = self._alternatives(nested=True)
            if not self._take(")"):
                self._fail("expected ) or | here")
            return node
        if found := _TOKEN.match(self._text, self._at):
            return self._token(found)
        if found := _NAME.match(self._text, self._at):
            self._references.setdefault(found[0], (self._at, self._rule))
            self._at = found.end()
            return Reference(found[0])
        return None

    def _repeat(self, item: Node) -> Node | None:
        for sign, low, high in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(sign):
                return Repeat(item, low, high)
        if self._text[self._at : self._at + 1] != "{":
            return None
        found = self._match(_REPEAT, "{m}, {m,} or {m,n}")
        low = int(found[1])
        high = low if not found[2] else int(found[3]) if found[3] else None
        if max(low, high or 0) > _MOST_REPEATS or (high is not None and high < low):
            self._fail(f"{found[0]} must count up, to {_MOST_REPEATS} at most")
        return Repeat(item, low, high)

    def _char_class(self) -> Node:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = high = self._char()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._char()
            if high < low:
                self._fail(f"the range {chr(low)}-{chr(high)} runs backwards")
            self._grow()
            ranges.append((low, high))
        chars = complement(union(ranges)) if negated else union(ranges)
        if not chars:
            self._fail("the character class is empty, so nothing can match it")
        return Chars(chars)

    def _char(self) -> int:
        char = self._text[self._at : self._at + 1]
        if char in ("", "\n", "\r"):
            self._fail("the line ends inside a string or a character class")
        self._at += 1
        if char != "\\":
            return ord(char)
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in _HEX:
            digits = self._text[self._at : self._at + _HEX[escape]]
            self._at += len(digits)
            if re.fullmatch(f"[0-9A-Fa-f]{{{_HEX[escape]}}}", digits) and not _no_character(int(digits, 16)):
                return int(digits, 16)
            self._fail(f"\\{escape}{digits} is no character")
        if escape not in _ESCAPES or not escape:
            self._fail(f"there is no escape \\{escape}")
        return ord(_ESCAPES[escape])

    def _token(self, found: re.Match[str]) -> Token:
        id = int(found[2]) if found[2] else 0 if self._token_id is None else self._token_id(found[0].lstrip("!"))
        if id is None:
            self._fail(f"the vocabulary has no token {found[0].lstrip('!')}")
        self._at = found.end()
        return Token(id, negated=bool(found[1]))

    def _grow(self) -> None:
        self._size += 1
        if self._size > _LARGEST:
            self._fail(f"the grammar is too large: more than {_LARGEST} characters, classes and groups")

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _match(self, what: re.Pattern[str], name: str) -> re.Match[str]:
        found = what.match(self._text, self._at)
        if found is None:
            self._fail(f"expected {name}, got {self._text[self._at : self._at + 20]!r}")
        self._at = found.end()
        return found

    def _take(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _fail(self, what: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        rule = f", rule {self._rule[:100]}" if self._rule else ""
        raise StructureError(printable(f"grammar, line {line}{rule}: {what[:300]}"))


def _no_character(code: int) -> bool:
    return 0xD800 <= code <= 0xDFFF or code > 0x10FFFF
