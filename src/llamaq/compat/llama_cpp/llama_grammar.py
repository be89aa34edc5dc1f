"""``LlamaGrammar``: what an answer must match, through ``llamaq.structure``."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from llamaq.structure import Structure, gbnf, json_schema

__all__ = ["JSON_GBNF", "LLAMA_GRAMMAR_DEFAULT_ROOT", "LlamaGrammar", "structure_of"]

LLAMA_GRAMMAR_DEFAULT_ROOT = "root"

JSON_GBNF = r"""
root   ::= object
object ::= "{" space (member ("," space member)*)? "}" space
member ::= string ":" space value
array  ::= "[" space (value ("," space value)*)? "]" space
value  ::= object | array | string | number | ("true" | "false" | "null") space
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" space
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})? space
space  ::= [ \t\n]{0,20}
"""
"""A grammar of JSON objects."""


class LlamaGrammar:
    """A grammar in llama.cpp's notation, or a JSON schema. ``structure`` is what llamaq makes of it.

    Raises ``StructureError`` at once for what cannot be used, with its line and rule.
    """

    def __init__(self, *, _grammar: str = "", structure: Structure | None = None, **_: Any) -> None:
        self._grammar = _grammar
        self._root = LLAMA_GRAMMAR_DEFAULT_ROOT
        self.structure = gbnf(_grammar) if structure is None else structure

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """A grammar from its text, which begins with the rule ``root``."""
        return cls(_grammar=grammar)

    @classmethod
    def from_file(cls, file: str | PathLike[str], verbose: bool = True) -> LlamaGrammar:
        """A grammar from a file. Raises ``OSError`` for one that cannot be read, ``ValueError`` for an empty one."""
        text = Path(file).read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError(f"{file}: expected a grammar, got an empty file")
        return cls.from_string(text)

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> LlamaGrammar:
        """A grammar of the JSON that a schema accepts; the schema as JSON text."""
        return cls(structure=_schema(json_schema))


def structure_of(grammar: Any) -> Structure | None:
    """What the argument ``grammar`` of a call stands for. Raises ``TypeError``."""
    if grammar is None or isinstance(grammar, Structure):
        return grammar
    if isinstance(grammar, LlamaGrammar):
        return grammar.structure
    raise TypeError(f"grammar must be a LlamaGrammar, got {type(grammar).__name__}; see LlamaGrammar.from_string")


_schema = json_schema  # the parameter of the method has its name
