"""Damaged grammars and schemas: nothing but StructureError comes. The seeds are llama.cpp's and what attacks found."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llamaq.errors import StructureError
from llamaq.structure import gbnf, json_schema, lark, regex
from schema_cases import COMPOSED, WRITTEN
from shared_files import SHARED

ROUNDS = 150  # rounds for each kind and seed, the same each time
SECONDS = float(os.environ.get("LLAMAQ_FUZZ_SECONDS", "0"))  # seconds of other rounds after these

GRAMMARS = [path.read_text(encoding="utf-8") for path in sorted((SHARED / "grammar").glob("*.gbnf"))] + [
    'root ::= ("a" | r0){2,3} r1? !<[5]>\nr0 ::= [^"\\x00-\\x1f] root | "" \nr1 ::= r1 "b" | .{0,2000}',
    'root ::= q0 | [a-z]{1999,}\nq0 ::= q1 q1\nq1 ::= (q1 | "a")? q2\nq2 ::= "ab" <[7]>',
]
LARKS = [
    'start: "a" b*\nb: /[a-z]+/ | "(" start ")"\n',
    'start: A{2,5} B\nA: "x"{1,3}\nB: /[0-9]+(\\.[0-9]+)?/\n%ignore /[ ]+/\n',
    'start: %json {"type":"object","properties":{"a":{"enum":[1,-9.5e18]}}}\n',
    'start: T x\nT: /a+/ & ~/aaa/\nx: <[5]> y[capture,stop="x"]\ny: /.*/\n',
]
PATTERNS = ["(yes|no), [a-z ]{5,20}[.]", r"(?i:abc)|\p{L}+\s\w{2,3}", "[[:alpha:]&&[^a]](x+x+)+y", "(a{9}){9}(|b)*"]
PIECES = [*'"|()[]{}*+?.\\-^<>!:=,%&~/@# \nab09', "{2000}", "{0}", ")*", "[^", "(?=", "\\U0010FFFF", "::=", "root", "é",
          "\ud800", "\0", "9" * 30]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e308, 5e-324, 2**53 + 1, 2**63, -(2**63), 10**290, 10**9, "", "(", "^$", "(?!a)",
    "a{1000}{1000}", "#", "#/$defs/Base", "http://a/b", "integer", "date", [], {}, [{}], ["a", "a"], {"a": {}},
    {"$ref": "#"}, {"not": {}}, {"enum": list(range(50))}, {"minItems": 900, "items": {"minLength": 900}},
]  # fmt: skip
KEYS = [
    "type", "enum", "const", "items", "prefixItems", "properties", "required", "additionalProperties",
    "patternProperties", "propertyNames", "minProperties", "maxProperties", "minItems", "maxItems", "uniqueItems",
    "contains", "minLength", "pattern", "format", "minimum", "exclusiveMaximum", "multipleOf", "allOf", "anyOf",
    "oneOf", "not", "if", "$ref", "$defs", "$id", "$anchor", "unevaluatedProperties",
]  # fmt: skip


def damaged(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        end = min(len(text), at + chance.choice((0, 1, 5, 30)))
        piece = chance.choice(PIECES) if chance.random() < 0.7 else text[at:end] * chance.choice((0, 2, 50))
        text = text[:at] + piece + text[end:]
    return text


def refusal(make: Any, what: Any) -> str:
    try:
        make(what)
    except StructureError as error:
        return str(error)
    return ""


def inside(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict | list) else []) + [x for child in children for x in inside(child)]


def damaged_schema(schema: Any, chance: random.Random) -> Any:
    schema = json.loads(json.dumps(schema))
    for _ in range(chance.choice((1, 2, 4, 10))):
        place = chance.choice(inside(schema))
        value = json.loads(json.dumps(chance.choice(VALUES)))
        if isinstance(place, dict):
            place[chance.choice([*place, *KEYS])] = value
        elif place:
            place[chance.randrange(len(place))] = value
    return schema


def chances(seed: int) -> Iterator[random.Random]:
    chance, end = random.Random(seed), time.monotonic() + SECONDS
    for _ in range(ROUNDS):
        yield chance
    while time.monotonic() < end:
        yield random.Random()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("make", "seeds"), [(gbnf, GRAMMARS), (lark, LARKS), (regex, PATTERNS)])
def test_damaged_texts(make: Any, seeds: list[str], seed: int) -> None:
    for chance in chances(seed):
        assert len(refusal(make, damaged(chance.choice(seeds), chance))) < 1000


@pytest.mark.parametrize("seed", range(4))
def test_damaged_schemas(seed: int) -> None:
    schemas = [case[0] for case in (*COMPOSED.values(), *WRITTEN.values())]
    for chance in chances(seed):
        schema = damaged_schema(chance.choice(schemas), chance)
        damage = damaged(json.dumps(schema), chance) if chance.random() < 0.1 else schema
        assert len(refusal(json_schema, damage)) < 1000
