"""The regular parts of a grammar: rules that refer to no rule in a circle become part of those that use them, and
neighbours that are regular become one node."""

from __future__ import annotations

from dataclasses import dataclass, field

from .tree import Alternatives, Chars, Node, Reference, Repeat, Sequence, Token, children, references

__all__ = ["Parts", "regular_parts"]

_LARGEST, _DEEPEST = 2000, 40  # nodes (with ranges) and depth of a rule that becomes part of others: they multiply
_ROOM = 200_000  # nodes of all rules that became part of others


@dataclass
class Parts:
    """Rules by name, root among them, of nodes of which ``regular`` has those without references and tokens."""

    rules: dict[str, Node] = field(default_factory=dict)
    regular: set[Node] = field(default_factory=set)


def regular_parts(rules: dict[str, Node]) -> Parts:
    """The rules, without those that others took over."""
    builder = _Builder(rules)
    builder.take_over()
    parts = Parts(regular=builder.regular)
    waiting = ["root"]
    while waiting:
        name = waiting.pop()
        if name not in parts.rules:
            parts.rules[name] = builder.built[name] if name in builder.built else builder.build(rules[name])
            waiting += references(parts.rules[name])
    return parts


class _Builder:
    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = rules
        self.built: dict[str, Node] = {}  # regular rules
        self.regular: set[Node] = set()
        self._sizes: dict[str, tuple[int, int]] = {}  # nodes and depth
        self._room = _ROOM

    def take_over(self) -> None:
        """Finds the regular rules, those first to which others refer."""
        needs = {name: set(references(node)) for name, node in self._rules.items()}
        users: dict[str, list[str]] = {name: [] for name in needs}
        for name, others in needs.items():
            for other in others:
                users[other].append(name)
        ready = [name for name, others in needs.items() if not others]
        while ready:
            name = ready.pop()
            size, depth = self._size(self._rules[name])
            if size > _LARGEST or depth > _DEEPEST or self._has_token(self._rules[name]):
                continue
            built = self.build(self._rules[name])
            if built not in self.regular:  # there is no room for it
                continue
            self._sizes[name] = size, depth
            self.built[name] = built
            for user in users[name]:
                needs[user].discard(name)
                if not needs[user]:
                    ready.append(user)

    def build(self, node: Node) -> Node:
        """The node with regular rules in place of references, and regular neighbours joined."""
        if isinstance(node, Reference):
            self._room -= self._sizes.get(node.name, (0, 0))[0]
            return self.built.get(node.name, node) if self._room >= 0 else node
        if isinstance(node, Repeat):
            item = self.build(node.item)
            return self._marked(Repeat(item, node.low, node.high), item in self.regular)
        if isinstance(node, Sequence | Alternatives):
            kind = type(node)
            items = [self.build(item) for item in node.items]
            if all(item in self.regular for item in items):
                return self._marked(kind(tuple(items)), True)
            return kind(tuple(self._joined(items, kind)))
        return self._marked(node, isinstance(node, Chars))

    def _joined(self, items: list[Node], kind: type[Sequence] | type[Alternatives]) -> list[Node]:
        """Runs of regular items of a sequence as one, and all of an alternation's."""
        if kind is Alternatives:
            items = sorted(items, key=lambda item: item not in self.regular)
        out: list[Node] = []
        run: list[Node] = []
        for item in [*items, None]:
            if item is not None and item in self.regular:
                run.append(item)
                continue
            if run:
                out.append(run[0] if len(run) == 1 else self._marked(kind(tuple(run)), True))
                run = []
            if item is not None:
                out.append(item)
        return out

    def _marked(self, node: Node, regular: bool) -> Node:
        if regular:
            self.regular.add(node)
        return node

    def _size(self, node: Node) -> tuple[int, int]:
        if isinstance(node, Reference):
            return self._sizes[node.name]
        if isinstance(node, Chars):
            return len(node.ranges), 1
        sizes = [self._size(child) for child in children(node)]
        return 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)

    def _has_token(self, node: Node) -> bool:
        return isinstance(node, Token) or any(self._has_token(child) for child in children(node))
