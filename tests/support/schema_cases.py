"""Schemas with texts that they accept and refuse: composed ones, and those that pydantic and zod write."""

from __future__ import annotations

from typing import Any

__all__ = ["BASE", "COMPOSED", "EMAIL", "INT", "NULL", "REF", "STR", "TREE", "WRITTEN", "obj"]


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
        ['{"x": "a"}', '{"x": 1, "z": 2}'],  # the second is a HABIT
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
        ['{"c": 1, "d": 1}', '{"c": 1, "d": "x", "e": "x"}'],  # the second is a HABIT: one alternative at a time
    ),
    "required by alternatives": (
        {**obj(a=INT, b=INT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ['{"a": 1}', '{"b": 1}', '{"a": 1, "b": 1}'], ["{}", '{"a": "x"}', '{"a": 1, "c": 1}'],
    ),
    "two unions": (
        {"allOf": [{"anyOf": [obj("a", a=INT), obj("b", b=INT)]}, {"anyOf": [obj("c", c=INT), obj("d", d=INT)]}]},
        ['{"a": 1, "c": 1}', '{"b": 1, "d": 1}', '{"a": 1, "d": 1}'], ['{"a": 1}', '{"c": 1}', '{"a": 1, "x": 1}'],
    ),
    "a pattern of names that are listed": (
        {"properties": {"b": INT}, "required": ["b"], "additionalProperties": False, "patternProperties": {"^b$": INT}},
        ['{"b": 1}', '{"b":1}'], ["{}", '{"b": "x"}', '{"b": 1, "b": 1}', '{"b": 1, '],
    ),
    "the same in another part": (
        {"allOf": [obj(b={}, c={}), {"patternProperties": {"^[bc]$": INT}, "additionalProperties": False}]},
        ["{}", '{"b": 1, "c": 2}', '{"c": 2}'], ['{"b": "x"}', '{"c": 2, ', '{"d": 1}'],
    ),
    "a pattern of required names": (
        {"type": "object", "propertyNames": {"pattern": "^b$"}, "additionalProperties": INT, "required": ["b"]},
        ['{"b": 1}'], ["{}", '{"b": 1, ', '{"c": 1}'],
    ),
    "a pattern of more names": (
        {**obj(b=INT), "patternProperties": {"^b": INT}, "additionalProperties": False},
        ['{"b": 1}', '{"b": 1, "bb": 2}'], ['{"b": "x"}', '{"c": 1}'],
    ),
    "an optional property that cannot be": (
        {**obj(a={"$ref": "#/$defs/none"}, b=NULL), "$defs": {"none": {"type": "integer", "minimum": 5, "maximum": 3}}},
        ["{}", '{"b": null}'], ['{"a": 4}', '{"a": 4, "b": null}'],
    ),
    "an alternative that cannot be": (
        {"anyOf": [{"$ref": "#/$defs/none"}, NULL],
         "$defs": {"none": obj("x", x={"$ref": "#/$defs/no"}), "no": {"type": "integer", "enum": ["a"]}}},
        ["null"], ["{}", '{"x": 1}', "1"],
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
        {"allOf": [INT, {"multipleOf": 5}]}, ["5", "-10"], ["1", "1" + "0" * 16],  # the second is a HABIT
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


def formatted(name: str) -> tuple[dict[str, str], list[str], list[str], str]:
    return {"type": "string", "format": name}, ['"x"'], ["1"], f"$: format '{name}' is not enforced"


EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
UUID = "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})$"
WRITTEN: dict[str, tuple[Any, list[str], list[str], str]] = {  # pydantic, zod and schemars made these
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
    "if, whose parts name properties": (
        {**obj("kind", kind={"enum": ["a", "b"]}), "allOf": [{"if": {"properties": {"kind": {"const": "a"}}},
                                                              "then": obj("x", x=INT), "else": REF}], **BASE},
        ['{"kind": "a", "x": 1}', '{"kind": "b", "name": "n"}'], ['{"kind": "a", "y": 1}', '{"x": 1}'],
        "$.allOf[0]: if is not enforced",
    ),
    "dependent properties": (
        {**obj(a=INT), "dependentSchemas": {"a": obj(b=INT)}}, ['{"a": 1, "b": 2}', "{}"], ['{"a": 1, "c": 2}'],
        "$: dependentSchemas is not enforced",
    ),
    "dependent properties of draft 7": (
        {**obj(a=INT), "dependencies": {"a": obj(b=INT), "b": ["a"]}}, ['{"a": 1, "b": 2}'], ['{"a": 1, "c": 2}'],
        "$: dependencies is not enforced",
    ),
    "sealed beside a condition": (
        {**obj(a=INT), "if": {"required": ["a"]}, "then": obj(b=INT), "unevaluatedProperties": False},
        ['{"a": 1, "b": 2}'], ['{"a": 1, "c": 2}'], "$: if is not enforced",
    ),
    "a pattern that looks around beside names": (
        {**obj("abc", abc=INT), "patternProperties": {"^(?!abc$)[a-z]+$": STR, "^_": INT}},
        ['{"abc": 1, "x": "y"}', '{"abc": 1, "_": 1}'], ['{"abc": "x"}', '{"abc": 1, "_": "x"}'],
        "$: patternProperties: look-around in '^(?!abc$)[a-z]+$' is not enforced",
    ),
    "a pattern that looks around in a closed object": (
        {"type": "object", "patternProperties": {"^(?!x-)": STR, "^x-": INT}, "additionalProperties": False},
        ['{"a": "s", "x-a": 1}'], ['{"a": 1}', '{"x-a": "s"}'],
        "$: patternProperties: look-around in '^(?!x-)' is not enforced",
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
