"""Structures that are small to write down and large in what they mean: refused, or read within bounds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamaq.errors import StructureError
from llamaq.gguf import GGUFFile
from llamaq.structure import Matcher, Structure, gbnf, json_schema, lark, regex
from llamaq.structure.gbnf import gbnf_to_lark, parse, regular, shortest
from llamaq.tokenizer import Tokenizer, load_tokenizer
from shared_files import ROOT
from structure_text import accepts


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


def doubling(n: int, last: str) -> str:
    return "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(n)) + f"r{n} ::= {last}\n"


def chain(n: int) -> str:
    return "root ::= r0\n" + "".join(f'r{i} ::= "a{i}" r{i + 1} | [a-z]+ root\n' for i in range(n)) + f'r{n} ::= "b"\n'


TOO_LONG, TOO_LARGE = "has more than 100000 characters", "the grammar is too large"
GRAMMARS = {
    "doubling": (doubling(40, '"a"'), TOO_LONG),
    "an alternative that doubles": (doubling(40, '"a"').replace("r0\n", '"b" | r0\n', 1), TOO_LONG),
    "a long literal": ('root ::= "' + "a" * 900_000 + '"', TOO_LARGE),
    "long alternatives": ("root ::= root | " + " | ".join(f'"{i}"' for i in range(50_000)), TOO_LARGE),
    "empty alternatives": ("root ::= " + "|" * 900_000, TOO_LARGE),
    "large classes": ("root ::= " + ("[" + "".join(map(chr, range(0x4E00, 0x5E00, 2))) + "]") * 200, TOO_LARGE),
    "optional characters": ("root ::= x root | x\nx ::= " + "[ab]? " * 30_000, "exceed the limit"),
    "nested repetitions": ("root ::= x | root x\nx ::= " + "(" * 8 + "[ab]" + "){8}" * 8, TOO_LONG),
    "nested loops": ("root ::= x | root x\nx ::= " + "(" * 8 + "[ab]?" + "){8}" * 8, None),
    "one rule used often": ("root ::= " + "r? " * 30_000 + '\nr ::= "' + "b" * 1900 + '"', "exceed the limit"),
    "a chain of rules": (chain(5000), "rules and groups in them exceed"),
    "many rules in one": (
        "root ::= " + " ".join(f"r{i}" for i in range(9000)) + "\n"
        + "".join(f'r{i} ::= "a" r{i} | "b"\n' for i in range(9000)),
        "rules and groups in them exceed",
    ),
    "a number of 10000 digits": ("root ::= [a]{" + "9" * 10_000 + "}", "expected {m}"),
    "a long name": ("root ::= " + "a" * 900_000, "there is no rule called aaa"),
    "deep groups": ("root ::= " + "(" * 98 + '"a" root | "b"' + ")*" * 98, "too deeply nested"),
    "half a surrogate pair": ('root ::= "\ud800"', "surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAMMARS)
def test_grammars_that_mean_more_than_they_say(name: str) -> None:
    grammar, message = GRAMMARS[name]
    if message is None:
        gbnf(grammar)
        return
    with pytest.raises(StructureError) as caught:
        gbnf(grammar)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.subprocess
def test_none_of_these_grammars_takes_much_memory() -> None:
    script = (
        "import resource, sys\n"
        "if sys.platform == 'linux': resource.setrlimit(resource.RLIMIT_AS, (3 << 29,) * 2)\n"
        f"sys.path[:0] = {[str(folder) for folder in (Path(__file__).parent, ROOT / 'tests/support')]!r}\n"
        "from test_limits import GRAMMARS\nfrom llamaq.structure import gbnf\n"
        "from llamaq.errors import StructureError\n"
        "for grammar, message in GRAMMARS.values():\n"
        "    try: gbnf(grammar)\n"
        "    except StructureError: pass\n"
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-500:]


@pytest.mark.parametrize(
    ("grammar", "length"),
    [
        ('root ::= "abc" | "d"', 1),
        ('root ::= "abc" x{3} | y\nx ::= [ab] [cd]?\ny ::= "ab" root', 6),
        ('root ::= ("a" | "bc")* x{2,} "" |  x x x\nx ::= <[1]> !<[2]>', 4),
        ('root ::= root "a" | "bb" root? | x{0} "ccc"\nx ::= "a"', 2),
        ("root ::= ", 0),
        (doubling(16, '"a"'), 65536),
    ],
)
def test_the_shortest_text_of_a_grammar(grammar: str, length: int) -> None:
    rules = parse.parse(grammar)
    assert shortest.shortest(rules)[rules["root"]] == length


def test_a_rule_that_stays_a_rule_means_the_same(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = 'root ::= word (" " word)* "."\nword ::= letter{1,5}\nletter ::= [a-z]'
    taken_over = gbnf_to_lark(grammar)
    monkeypatch.setattr(regular, "_ROOM", 4)
    assert gbnf_to_lark(grammar) != taken_over
    structure = gbnf(grammar)
    assert accepts(structure, "once there was lily.", tokenizer)
    assert not accepts(structure, "once little lily.", tokenizer)


@pytest.mark.subprocess
def test_rules_inside_one_another_do_not_overflow_the_stack() -> None:
    script = (
        "from llamaq.structure import lark, gbnf\n"
        "from llamaq.errors import StructureError\n"
        "def rules(n): return ''.join(f'r{i}: (\"a\" r{i + 1} | \"b\")?\\n' for i in range(n)) + f'r{n}: \"c\"\\n'\n"
        "lark('start: r0\\n' + rules(1990))\n"
        "gbnf('root ::= r0\\n' + rules(1300).replace(':', ' ::='))\n"
        "try: lark('start: r0\\n' + rules(20_000))\n"
        "except StructureError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "lark: 40002 rules, groups and classes exceed the limit of 4000\n")


def test_what_lark_forces_is_not_written_at_once(tokenizer: Tokenizer) -> None:
    matcher = Matcher(lark('start: A{30000}\nA: "a"{10000}'), tokenizer)
    assert matcher.forced() == []
    ids = tokenizer.encode("aaaa", add_special=False, continuation=True)
    assert all(matcher.allows(id) for id in ids[:1])


@pytest.mark.parametrize("make", [regex, lark, gbnf])
def test_what_is_no_text(make: Callable[[str], Structure]) -> None:
    with pytest.raises(StructureError, match="surrogate"):
        make("a\udc00")
    for other in (5, None, b"a"):
        with pytest.raises(TypeError, match="must be text"):
            make(other)


def test_what_is_no_mark() -> None:
    for mark in ("", "a\udc00"):
        with pytest.raises(ValueError, match="mark must be characters that end a text"):
            regex("a").following(mark)
    with pytest.raises(TypeError, match="mark must be text"):
        regex("a").following(None)


def test_messages_are_one_line() -> None:
    for make, strange in (
        (gbnf, 'root ::= "\\\n"'),
        (gbnf, 'root ::= "\\x\x1b"'),
        (json_schema, '{"items": {"properties": {"a\\n\\u001b": 5}}}'),
    ):
        with pytest.raises(StructureError) as error:
            make(strange)
        assert str(error.value).isprintable()
    (note,) = json_schema({"properties": {"a\n\x1b": {"uniqueItems": True}}}).notes
    assert note == r"$.properties.a\n\x1b: uniqueItems is not enforced"
