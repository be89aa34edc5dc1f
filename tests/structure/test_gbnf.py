"""GBNF in Lark means the same: random grammars against a recognizer that tries everything, character by character."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llamaq.errors import StructureError
from llamaq.gguf import GGUFFile
from llamaq.structure import gbnf
from llamaq.structure.gbnf.parse import parse
from llamaq.structure.gbnf.tree import Alternatives, Chars, Node, Reference, Repeat, Sequence, complement, union
from llamaq.tokenizer import Tokenizer, load_tokenizer
from structure_text import accepts


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


class Recognizer:
    """Where a node may end in a text that it begins at some place."""

    def __init__(self, rules: dict[str, Node], text: str) -> None:
        self._rules, self._text = rules, text
        self._ends: dict[tuple[Node, int], set[int]] = {}

    def matches(self) -> bool:
        """Grows what is known until nothing new comes, so left recursion does no harm."""
        while True:
            known = sum(map(len, self._ends.values()))
            seen: set[tuple[Node, int]] = set()
            found = self._from(self._rules["root"], 0, seen)
            if sum(map(len, self._ends.values())) == known:
                return len(self._text) in found

    def _from(self, node: Node, at: int, seen: set[tuple[Node, int]]) -> set[int]:
        key = node, at
        known = self._ends.setdefault(key, set())
        if key not in seen:
            seen.add(key)
            known.update(self._look(node, at, seen))
        return known

    def _look(self, node: Node, at: int, seen: set[tuple[Node, int]]) -> Iterator[int]:
        if isinstance(node, Chars):
            if at < len(self._text) and any(low <= ord(self._text[at]) <= high for low, high in node.ranges):
                yield at + 1
        elif isinstance(node, Reference):
            yield from list(self._from(self._rules[node.name], at, seen))
        elif isinstance(node, Alternatives):
            for item in node.items:
                yield from list(self._from(item, at, seen))
        elif isinstance(node, Sequence):
            ends = {at}
            for item in node.items:
                ends = {end for begin in ends for end in list(self._from(item, begin, seen))}
            yield from ends
        elif isinstance(node, Repeat):
            ends, reached, count = {at}, {at} if node.low == 0 else set(), 0
            while ends and count != node.high and count <= node.low + len(self._text):
                ends = {end for begin in ends for end in list(self._from(node.item, begin, seen))}
                count += 1
                reached |= ends if count >= node.low else set()
            yield from reached


def same_language(grammar: str, tokenizer: Tokenizer, alphabet: str = "ab ", longest: int = 5) -> None:
    structure, rules = gbnf(grammar), parse(grammar)
    for n in range(longest + 1):
        for text in map("".join, product(alphabet, repeat=n)):
            assert accepts(structure, text, tokenizer) == Recognizer(rules, text).matches(), text


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= ws "a" ws root? \nws ::= [ ]*',
        'root ::= (word " ")* word\nword ::= "a" | "ab" | word "b"',
        'root ::= x "b"\nx ::= "a"* | "a" x "b"',
        'root ::= "a"* "ab" | "b" root " "',
        'root ::= t+\nt ::= "a" | "ab" | "b a" | "(" t ")"',
        'root ::= item | item root\nitem ::= [ab]+ " "?',
        'root ::= root "a" | ',
        'root ::= "" | "a" root "a" | "b" root "b"',
        'root ::= (("a" | "") "b")* s\ns ::= " " s | ',
        'root ::= [^b]{2} n\nn ::= "b"{1,3} n?',
        'root ::= r{2,3}\nr ::= "a" | "b" r',
        "root ::= . root | .",
    ],
)
def test_grammars_in_which_the_longest_match_is_not_the_right_one(grammar: str, tokenizer: Tokenizer) -> None:
    same_language(grammar, tokenizer)


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(['"a"', '"b"', '"ab"', '" "', "[ab]", "[^a]", "[a ]", "root", "x", "y", '""'])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(" ".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda items: f"({' | '.join(items)})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map(lambda p: f"({p[0]}){p[1]}"),
        ),
        max_leaves=6,
    )


@settings(max_examples=60)
@given(root=expressions(), x=expressions(), y=expressions())
def test_random_grammars(tokenizer: Tokenizer, root: str, x: str, y: str) -> None:
    grammar = f"root ::= {root}\nx ::= {x}\ny ::= {y}"
    try:
        gbnf(grammar)
    except StructureError as error:
        assume("no text can match" not in str(error))
    same_language(grammar, tokenizer, longest=3)


def test_a_rule_that_never_ends_is_an_error() -> None:
    for grammar, name in [("root ::= root+", "root"), ('root ::= "a" | x "b"\nx ::= "(" x ")"', "x")]:
        with pytest.raises(StructureError, match=f"rule {name}: no text can match it"):
            gbnf(grammar)


def test_sets_of_characters() -> None:
    assert union([(5, 6), (1, 2), (3, 3), (9, 9)]) == ((1, 3), (5, 6), (9, 9))
    assert complement(((0, 96), (98, 0x10FFFF))) == ((97, 97),)
    assert complement(()) == ((0, 0xD7FF), (0xE000, 0x10FFFF))


@lru_cache
def escapes() -> dict[str, str]:
    return {r'"\x61"': "a", r'"\u00e9"': "é", r'"\U0001F600"': "😀", r'"\n\t\r"': "\n\t\r", r'"\\\""': '\\"',
            r"[\]\-\^]": "^", r"[a\]]": "]", "[-a]": "-", "[a-]": "-", "[é-ü]": "ê", '"/#"': "/#"}  # fmt: skip


@pytest.mark.parametrize("written", escapes())
def test_escapes(written: str, tokenizer: Tokenizer) -> None:
    structure = gbnf(f"root ::= {written} # a comment\n")
    assert accepts(structure, escapes()[written], tokenizer)
    assert not accepts(structure, "b", tokenizer)
