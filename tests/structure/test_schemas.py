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
from schema_cases import BASE, COMPOSED, EMAIL, INT, NULL, REF, STR, WRITTEN, obj
from structure_text import accepts


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_schemas(name: str, tokenizer: Tokenizer) -> None:
    schema, accept, reject = COMPOSED[name]
    structure = json_schema(schema)
    assert structure.notes == ()
    assert [text for text in accept if not accepts(structure, text, tokenizer)] == []
    assert [text for text in reject if accepts(structure, text, tokenizer)] == []


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


@pytest.mark.parametrize("count", [500, 2400])
def test_objects_of_many_optional_properties(tokenizer: Tokenizer, count: int) -> None:
    names = [f"p{i}" for i in range(count)]
    structure = json_schema(obj(inner=obj(**dict.fromkeys(names, NULL))))
    assert accepts(structure, '{"inner": {"p0": null, "p400": null}}', tokenizer)
    assert not accepts(structure, '{"inner": {"p400": null, "p0": null}}', tokenizer)


def test_objects_of_too_many_are_refused_before_anything_is_written() -> None:
    with pytest.raises(StructureError, match=r"^JSON schema: \$: .*too big"):
        json_schema(obj(**{f"p{i}": NULL for i in range(4000)}))


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"not": {"required": [{}]}}, r"\$\.not: required must be a list of names"),
        (
            {"oneOf": [obj("a", a=REF), obj("a", a={"const": 1})], "$defs": {"Base": {"required": [{}]}}},
            r"\$\.\$defs\.Base: required must be",
        ),
    ],
)
def test_schemas_inside_are_checked_before_they_are_looked_at(schema: Any, where: str) -> None:
    with pytest.raises(StructureError, match=where):
        json_schema(schema)


def test_required_properties_that_cannot_be_are_named() -> None:
    none = {"type": "integer", "minimum": 5, "maximum": 3}
    with pytest.raises(StructureError, match=r"\$\.properties\.a: .*'a' is unsatisfiable"):
        json_schema({**obj("a", a={"$ref": "#/$defs/none"}), "$defs": {"none": none}})


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
    "dependencies that are a list": ({"dependencies": []}, "dependencies must be an object"),
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
