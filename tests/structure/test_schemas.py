"""JSON schemas that are composed, what pydantic and zod write, and what is not enforced. The texts were checked with
the package jsonschema: those accepted are valid, and so are those refused by a habit of llama.cpp, marked HABIT."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from llamaq.errors import StructureError
from llamaq.gguf import GGUFFile
from llamaq.structure import json_schema, lark, regex
from llamaq.structure.schema.lookaround import without_lookaround
from llamaq.tokenizer import Tokenizer, load_tokenizer
from structure_text import accepts


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


def obj(required: str = "", **properties: Any) -> dict[str, Any]:
    names = {"required": required.split()} if required else {}
    return {"type": "object", "properties": properties, **names}


INT, STR, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}
BASE = {"$defs": {"Base": obj("name", name=STR)}}
REF = {"$ref": "#/$defs/Base"}
CAT, DOG = obj("kind", kind={"const": "cat"}, lives=INT), obj("kind", kind={"const": "dog"}, age=INT)
TREE = {"allOf": [{"$ref": "#/$defs/Named"}], **obj(kids={"type": "array", "items": {"$ref": "#/$defs/Tree"}})}

COMPOSED: dict[str, tuple[Any, list[str], list[str]]] = {
    "allOf, optional": (
        {"allOf": [obj(x=INT), obj(y=INT)]},
        ["{}", '{"x": 1}', '{"y": 2}', '{"x": 1, "y": 2}'],
        ['{"x": "a"}', '{"x": 1, "z": 2}'],  # the second a HABIT
    ),
    "allOf, required": (
        {"allOf": [obj("x", x=INT), obj("y", y=INT)]}, ['{"x": 1, "y": 2}'], ["{}", '{"x": 1}', '{"y": 2}'],
    ),
    "inheritance": (
        {"allOf": [REF, obj(age=INT)], **BASE}, ['{"name": "x", "age": 3}', '{"name": "x"}'],
        ['{"age": 3}', '{"name": "x", "other": 3}'],
    ),
    "own properties before allOf": (
        {**obj("kind", kind={"const": "dog"}), "allOf": [REF], **BASE}, ['{"kind": "dog", "name": "x"}'],
        ['{"kind": "dog"}', '{"name": "x", "kind": "dog"}'],  # HABIT: the schema's order
    ),
    "a reference beside its own": (
        {**REF, **obj(age=INT), **BASE}, ['{"name": "x", "age": 3}', '{"name": "x"}'], ['{"age": 3}', '{"name": 1}'],
    ),
    "a reference beside required": (
        {**REF, "required": ["name", "free"], **BASE}, ['{"name": "x", "free": [1]}'], ['{"name": "x"}'],
    ),
    "anyOf beside properties": (
        {**obj(c=INT), "anyOf": [obj(d=STR), obj("e", e=STR)]},
        ['{"c": 1, "d": "x"}', '{"c": 1}', '{"c": 1, "e": "x"}', "{}"],
        ['{"c": 1, "d": 1}', '{"c": 1, "d": "x", "e": "x"}'],  # the second a HABIT: one alternative at a time
    ),
    "required by alternatives": (
        {**obj(a=INT, b=INT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ['{"a": 1}', '{"b": 1}', '{"a": 1, "b": 1}'], ["{}", '{"a": "x"}', '{"a": 1, "c": 1}'],
    ),
    "two unions": (
        {"allOf": [{"anyOf": [obj("a", a=INT), obj("b", b=INT)]}, {"anyOf": [obj("c", c=INT), obj("d", d=INT)]}]},
        ['{"a": 1, "c": 1}', '{"b": 1, "d": 1}', '{"a": 1, "d": 1}'], ['{"a": 1}', '{"c": 1}', '{"a": 1, "x": 1}'],
    ),
    "alternatives that are open": (
        {"anyOf": [{**obj("a", a=INT), "additionalProperties": True}, obj(b=INT)]},
        ['{"a": 1, "z": 1}', '{"b": 1}'], ['{"z": 1}'],
    ),
    "oneOf by a constant": (
        {"oneOf": [CAT, DOG]}, ['{"kind": "cat", "lives": 9}', '{"kind": "dog", "age": 1}'],
        ['{"kind": "cat", "age": 1}', '{"kind": "cow"}'],
    ),
    "oneOf of references": (
        {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "$defs": {"cat": CAT, "dog": DOG}},
        ['{"kind": "dog", "age": 1}'], ['{"kind": "dog", "lives": 1}'],
    ),
    "a tree that extends another": (
        {"$ref": "#/$defs/Tree", "$defs": {"Named": obj("name", name=STR), "Tree": TREE}},
        ['{"name": "a", "kids": [{"name": "b", "kids": []}]}'], ['{"name": "a", "kids": [{"kids": []}]}'],
    ),
    "closed by hand, as JSON schema means it": (
        {"allOf": [{**obj(x=INT), "additionalProperties": False}, obj(y=INT)]}, ["{}", '{"x": 1}'], ['{"y": 1}'],
    ),
    "unevaluatedProperties": (
        {**REF, "unevaluatedProperties": False, **BASE}, ['{"name": "x"}'], ['{"name": "x", "age": 1}'],
    ),
    "unevaluatedProperties and names that are only required": (
        {"required": ["a"], "unevaluatedProperties": False, "type": ["object", "null"]}, ["null"], ['{"a": 1}'],
    ),
    "not": (
        {"type": ["integer", "string", "null"], "not": {"type": "string"}}, ["1", "null"], ['"a"'],
    ),
    "not required": (
        {**obj(a=INT, b=INT), "not": {"required": ["a"]}}, ['{"b": 1}', "{}"], ['{"a": 1}', '{"a": 1, "b": 1}'],
    ),
    "nothing": ({"anyOf": [NULL, {"not": {}}]}, ["null"], ["1"]),
    "bounds in parts": (
        {"allOf": [{"multipleOf": 10}, {**INT, "minimum": 10**16}]}, [str(10**16)], ["5", str(10**15), str(10**16 + 1)],
    ),
    "the largest integer in parts": (
        {"allOf": [INT, {"multipleOf": 5}]}, ["5", "-10"], ["1", "1" + "0" * 16],  # the second a HABIT
    ),
    "the first of two references": (
        {"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"$ref": "#here"}, "x": {"$anchor": "here", **NULL}}},
        ["null"], ["1"],
    ),
    "an identified part": (
        {"$ref": "http://x/part", "$defs": {"p": {"$id": "http://x/part", "$ref": "#/$defs/q", "$defs": {"q": NULL}}}},
        ["null"], ["1"],
    ),
    "items before draft 2020-12": (
        {"type": "array", "items": [INT, STR], "additionalItems": False, "minItems": 2},
        ['[1, "a"]'], ["[1, 2]", "[1]"],
    ),
    "bounds before draft 6": (
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False},
        ["1", "9"], ["0", "10"],  # draft 4 says so
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_schemas(name: str, tokenizer: Tokenizer) -> None:
    schema, accept, reject = COMPOSED[name]
    structure = json_schema(schema)
    assert structure.notes == ()
    assert [text for text in accept if not accepts(structure, text, tokenizer)] == []
    assert [text for text in reject if accepts(structure, text, tokenizer)] == []


def formatted(name: str) -> tuple[dict[str, str], list[str], list[str], str]:
    return {"type": "string", "format": name}, ['"x"'], ["1"], f"$: format '{name}' is not enforced"


EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
UUID = "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})$"
WRITTEN: dict[str, tuple[Any, list[str], list[str], str]] = {  # by pydantic, zod and schemars
    **{name: formatted(name) for name in ("path", "binary", "password", "base64", "file-path", "regex", "uuid4")},
    "set": (
        {"type": "array", "items": STR, "uniqueItems": True}, ['["a", "b"]', "[]"], ["[1]"],
        "$: uniqueItems is not enforced",
    ),
    "no set": ({"type": "array", "items": INT, "uniqueItems": False}, ["[1, 1]"], ["1"], ""),
    "dict of literals": (
        {"type": "object", "additionalProperties": INT, "propertyNames": {"enum": ["a", "b"]}},
        ["{}", '{"a": 1}', '{"a": 1, "b": 2}'], ['{"c": 1}', '{"a": "x"}'], "",
    ),
    "dict of an enumeration": (
        {"additionalProperties": INT, "propertyNames": {"$ref": "#/$defs/E"}, "type": "object",
         "$defs": {"E": {"enum": ["x", "y"], "title": "E", "type": "string"}}},
        ['{"x": 1}'], ['{"z": 1}'], "",
    ),
    "record": (
        {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}},
        ['{"a": 1.5}'], ['{"a": "x"}'], "",
    ),
    "names of a pattern": (
        {"type": "object", "propertyNames": {"pattern": "^[a-c]+$"}}, ['{"abc": [1]}'], ['{"d": 1}'], "",
    ),
    "names of some length": (
        {"type": "object", "propertyNames": {"maxLength": 2}}, ['{"ab": 1}'], ["1"], "$: propertyNames is not enforced",
    ),
    "email": (
        {"type": "string", "format": "email", "pattern": EMAIL}, ['"a@b.co"'], ['".a@b.co"', '"a..b@c.de"', '"a"'],
        f"$: pattern: look-around in {EMAIL[:100]!r} is not enforced",
    ),
    "uuid": (
        {"type": "string", "format": "uuid", "pattern": UUID}, ['"123e4567-e89b-12d3-a456-426614174000"'],
        ['"123e4567-e89b-92d3-a456-426614174000"'], "",
    ),
    "int": (
        {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}, ["5", "-9007199254740991"],
        ["9007199254740992"], "",
    ),
    "int64": (
        {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, ["9223372036854774784", "0"],
        ["9223372036854775808", "-1"],
        "$: maximum is 9223372036854774784, not 9223372036854775807: numbers beyond are not written",
    ),
    "uint64": (
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, ["9223372036854774784"], ["18446744073709551616"],
        "$: maximum is 9223372036854774784, not 18446744073709551615: numbers beyond are not written",
    ),
    "float32": (
        {"type": "number", "maximum": 3.4e38}, ["1.5", "-7"], ['"a"'],
        "$: maximum is 1000000000000000, not 3.4e+38: numbers beyond are not written",
    ),
    "an odd bound": (
        {"type": "integer", "maximum": 2**53 + 3, "minimum": 0}, [str(2**53 + 2)], [str(2**53 + 4)],
        f"$: maximum is {2**53 + 2}, not {2**53 + 3}: numbers beyond are not written",
    ),
    "optional uint": ({"type": ["integer", "null"], "minimum": 0.0}, ["5", "null"], ["-1"], ""),
    "oneOf that texts overlap": (
        {"oneOf": [{**CAT, "type": ["object", "string"]}, {**DOG, "type": ["object", "string"]}]}, ['{"kind": "cat"}'],
        ["1"], "$: oneOf is read as anyOf, since a value may match more than one of its schemas",
    ),
    "sealed where a part says what others there may be": (
        {"allOf": [{"additionalProperties": INT}], "unevaluatedProperties": False, "type": "object"}, ['{"a": 1}'],
        ['{"a": "x"}'], "$: unevaluatedProperties is not enforced",
    ),
    "overlapping oneOf": (
        {"oneOf": [INT, {"type": "number"}]}, ["1.5"], ['"a"'],
        "$: oneOf is read as anyOf, since a value may match more than one of its schemas",
    ),
    "if": (
        {**obj(a=INT), "if": {"required": ["a"]}, "then": {"required": ["b"]}}, ["{}"], ["1"], "$: if is not enforced",
    ),
    "contains": ({"items": {"contains": INT}, "type": "array"}, ["[[1]]"], ["1"], "$.items: contains is not enforced"),
    "not a constant": ({"type": "integer", "not": {"const": 5}}, ["6"], ["null"], "$: not is not enforced"),
    "names that may stand twice": (
        {"type": "object", "additionalProperties": INT, "minProperties": 2}, ['{"a": 1, "b": 2}'], ['{"a": 1}'],
        "$: minProperties counts names that stand twice",
    ),
    "a number of optional properties": (
        {**obj(a=INT, b=INT, c=INT), "minProperties": 2}, ['{"a": 1, "b": 2}'], ["1"],
        "$: minProperties is not enforced",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_what_libraries_write_and_what_is_not_enforced(
    name: str, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    schema, accept, reject, note = WRITTEN[name]
    with caplog.at_level(logging.WARNING, "llamaq"):
        structure = json_schema(schema)
    assert structure.notes == ((note,) if note else ())
    assert [record.getMessage() for record in caplog.records] == [f"JSON schema: {note}" for note in structure.notes]
    assert [text for text in accept if not accepts(structure, text, tokenizer)] == []
    assert [text for text in reject if accepts(structure, text, tokenizer)] == []


def test_the_order_is_the_schemas(tokenizer: Tokenizer) -> None:
    parts = {"allOf": [REF], **obj(age=INT), **BASE}
    assert accepts(json_schema(parts), '{"name": "x", "age": 1}', tokenizer)
    first = {**obj(age=INT), "allOf": [REF], **BASE}
    assert accepts(json_schema(first), '{"age": 1, "name": "x"}', tokenizer)


def test_mappings_are_schemas() -> None:
    plain = {"type": "object", "properties": {"a": {"enum": (1, 2)}}}
    wrapped = MappingProxyType({"type": "object", "properties": MappingProxyType({"a": {"enum": [1, 2]}})})
    assert json_schema(wrapped) == json_schema(plain) == json_schema(json.dumps(plain))


def chain(n: int, last: Any, step: Callable[[dict[str, str]], Any]) -> dict[str, Any]:
    links = {f"r{i}": step({"$ref": f"#/$defs/r{i + 1}"}) for i in range(n)}
    return {"$ref": "#/$defs/r0", "$defs": {**links, f"r{n}": last}}


def deep(n: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(n):
        schema = {"items": schema}
    return schema


REFUSED: dict[str, tuple[Any, str]] = {
    "a bound of 400 digits": ({"type": "integer", "maximum": 10**399}, "larger than any number"),
    "a bound of 5000 digits": ('{"maximum": ' + "9" * 5000 + "}", "larger than any number"),
    "a bound beyond 64 bits": ({"type": "integer", "minimum": 2**63}, "beyond what can be bounded"),
    "an infinite bound": ('{"type": "number", "maximum": 1e999}', "larger than any number"),
    "not a number": ({"type": "number", "maximum": float("nan")}, "NaN is no number"),
    "infinity": ('{"const": -Infinity}', "-Infinity is no number"),
    "a name that stands twice": ('{"type": "null", "type": "string"}', '"type" stands twice'),
    "half a surrogate pair": ({"const": "\ud800"}, "$.const: half a surrogate pair"),
    "a set": ({"enum": {1}}, "no JSON"),
    "bytes": (b"{}", "no JSON"),
    "a list": ([], "$ must be an object or a boolean"),
    "a schema that is a number": ({"items": 5}, "$: items must be a schema, got 5"),
    "a type that is a number": ({"properties": {"a": {"type": 1}}}, "$.properties.a: type must be one or some of"),
    "no types": ({"type": []}, "type must be"),
    "a negative length": ({"type": "string", "minLength": -1}, "minLength must be a whole number"),
    "a count that is true": ({"type": "string", "minLength": True}, "minLength must be a whole number"),
    "no alternatives": ({"anyOf": []}, "anyOf must be a list of schemas"),
    "zero": ({"multipleOf": 0}, "multipleOf must be a positive number"),
    "a constant that is rounded": ({"const": 2**53 + 1}, "cannot be a constant, got 9007199254740993"),
    "a constant that is rounded inside": ({"enum": [{"a": [2**53 + 1]}]}, "cannot be a constant"),
    "the least of 64 bits": ({"enum": [1, -(2**63)]}, "cannot be a constant"),
    "a large constant": ({"const": -9.223372036854775808e18, "type": "integer"}, "cannot be a constant"),
    "nothing but itself": ({"$ref": "#"}, "made of itself"),
    "itself among parts": ({"anyOf": [NULL, {"$ref": "#"}]}, "made of itself"),
    "a circle": (chain(1, {"$ref": "#/$defs/r0"}, lambda ref: ref), "made of itself"),
    "no such definition": ({"items": {"$ref": "#/$defs/none"}}, "$.items.$ref: '#/$defs/none' leads nowhere"),
    "a reference to no schema": ({"$ref": "#/const", "const": 1}, "leads to no schema"),
    "another document": ({"$ref": "other.json"}, "no 'other.json', and no others are fetched"),
    "a pattern with a reference back": ({"items": {"pattern": r"^(a)\1$"}}, "$.items.pattern: "),
    "a pattern within look-around": ({"pattern": "(?=a)("}, "$.pattern: "),
    "many parts": ({"allOf": [{"anyOf": [obj(**{f"p{i}{j}": STR}) for j in range(3)]} for i in range(12)]}, "$"),
    "parts inside one another": (chain(100, NULL, lambda ref: {"allOf": [ref, {}]}), "more than 60 deep"),
    "a long chain of references": (chain(12_000, NULL, lambda ref: {"items": ref}), "more than 10000 schemas"),
    "depth": (deep(100_000), "nested deeper than 60"),
    "many items": ({"type": "array", "items": {"const": 1}, "minItems": 10**9}, "more than 100000 characters"),
    "items that multiply": (
        chain(40, {"const": "a"}, lambda ref: {"type": "array", "items": ref, "minItems": 2}),
        "more than 100000 characters",
    ),
    "a long constant": ({"anyOf": [NULL, {"const": "a" * 200_000}]}, "more than 100000 characters"),
    "many patterns": ({"patternProperties": {f"^{i}.*x": INT for i in range(40)}}, "exceed the limit of 30"),
    "many patterns in parts": (
        {"allOf": [{"patternProperties": {f"^{i}.*x": INT}} for i in range(40)]},
        "exceed the limit of 30",
    ),
    "many alternatives": ({"enum": [f"v{i}" for i in range(50_000)]}, "too big"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_schemas_that_cannot_be_used(name: str) -> None:
    schema, message = REFUSED[name]
    with pytest.raises(StructureError) as caught:
        json_schema(schema)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_references_inside_one_another_do_not_overflow_the_stack(tokenizer: Tokenizer) -> None:
    structure = json_schema(chain(2500, NULL, lambda ref: {"type": "array", "items": ref, "maxItems": 1}))
    assert accepts(structure, "[[[]]]", tokenizer)


@pytest.mark.parametrize(
    ("pattern", "without"),
    [
        ("(?!a)b", "b"),
        (r"^(?=.*[)\]]x)(?<!(a)(b))c$", "^c$"),
        (r"\bfoo\B", "foo"),
        (r"\\b[(?=]\(?=(?:a)(?<n>b)", r"\\b[(?=]\(?=(?:a)(?<n>b)"),
        (r"[]a](?=[^]])(b)", "[]a](b)"),
    ],
)
def test_patterns_without_what_looks_around(pattern: str, without: str) -> None:
    assert without_lookaround(pattern) == without


def test_many_alternatives_of_a_union_are_told_apart_by_a_constant() -> None:
    structure = json_schema({"oneOf": [obj("kind", kind={"const": f"k{i}"}, x=NULL) for i in range(300)]})
    assert structure.notes == ()


def test_schemas_in_lark_are_schemas(tokenizer: Tokenizer) -> None:
    structure = lark('start: "<" j ">"\nj: %json {\n"anyOf": [{"items": {"uniqueItems": true}, "type": "array"}]\n}\n')
    assert structure.notes == ("$.anyOf[0].items: uniqueItems is not enforced",)
    assert accepts(structure, "<[[1]]>", tokenizer)
    assert not accepts(structure, "<[1>", tokenizer)
    with pytest.raises(StructureError, match="cannot be a constant"):
        lark('start: %json {"const": -9223372036854775808}')
    with pytest.raises(StructureError, match="4\\("):
        lark('start: j k\nj: %json {"type":\n"null"}\n(')


def test_a_pattern_of_its_own_may_not_look_around() -> None:
    with pytest.raises(StructureError, match="look-around"):
        regex(EMAIL)
