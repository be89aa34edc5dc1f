"""A GBNF grammar in the Lark dialect of llguidance."""

from __future__ import annotations

from llamaq.errors import StructureError
from llamaq.structure.engine import LEVELS

from .lexing import terminals
from .parse import TokenId, parse
from .regular import regular_parts
from .tree import Alternatives, Chars, Node, Reference, Repeat, Sequence, Token

__all__ = ["gbnf_to_lark"]


def gbnf_to_lark(text: str, token_id: TokenId | None = None) -> str:
    """The same language in Lark. ``token_id`` finds tokens written as ``<text>``; without it they stand for token 0,
    which is good for checking a grammar alone. Raises ``StructureError`` naming line and rule."""
    parts = regular_parts(parse(text, token_id))
    return _Writer(parts.rules, terminals(parts)).text()


class _Writer:
    def __init__(self, rules: dict[str, Node], chosen: set[Node]) -> None:
        self._rules, self._chosen = rules, chosen
        self._names = {name: "start" if name == "root" else f"rule_{i}" for i, name in enumerate(rules)}
        self._terminals: dict[str, str] = {}  # names by expression

    def text(self) -> str:
        lines = [f"{self._names[name]}: {self._expression(node)}" for name, node in self._rules.items()]
        levels = sum(1 + line.count("(") for line in lines)
        if levels > LEVELS:
            raise StructureError(f"grammar: {levels} rules and groups in them exceed the limit of {LEVELS}")
        lines += [f"{name}: /{regex}/" for regex, name in self._terminals.items()]
        return "\n".join(["%llguidance {}", *lines]) + "\n"

    def _expression(self, node: Node) -> str:
        if node in self._chosen:
            regex = _regex(node)
            return self._terminals.setdefault(regex, f"T{len(self._terminals)}") if regex else '""'
        if isinstance(node, Token):
            return f"<[^{node.id}]>" if node.negated else f"<[{node.id}]>"
        if isinstance(node, Reference):
            return self._names[node.name]
        if isinstance(node, Repeat):
            return f"({self._expression(node.item)}){_times(node)}"
        assert isinstance(node, Sequence | Alternatives)
        items = [self._expression(item) for item in node.items] or ['""']
        return " ".join(items) if isinstance(node, Sequence) else f"({' | '.join(items)})"


def _times(node: Repeat) -> str:
    sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.low, node.high))
    return sign or f"{{{node.low},{'' if node.high is None else node.high}}}"


def _regex(node: Node) -> str:
    if isinstance(node, Chars):
        if len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
            return _char(node.ranges[0][0])
        return f"[{''.join(_char(low) + ('-' + _char(high) if high > low else '') for low, high in node.ranges)}]"
    if isinstance(node, Sequence):
        return "".join(map(_regex, node.items))
    if isinstance(node, Alternatives):
        return f"(?:{'|'.join(map(_regex, node.items))})"
    assert isinstance(node, Repeat)
    return f"(?:{_regex(node.item)}){_times(node)}"


def _char(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:X}}}"
