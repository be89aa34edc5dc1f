"""The types that a file can be quantized to: llama.cpp's names and numbers (`llama_ftype` in `llama.h`)."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.boundary.arguments import text
from llamaq.formats import Format, format_by_name

__all__ = ["COPY", "FILE_TYPES", "FileType", "file_type_by_name"]


@dataclass(frozen=True)
class FileType:
    """A mixture of formats under one name: ``format`` is what most tensors get, ``number`` general.file_type's."""

    name: str
    number: int
    format: Format


def _table() -> dict[str, FileType]:
    same = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q6_K": 18, "IQ2_XXS": 19}
    same |= {"IQ2_XS": 20, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26, "IQ4_XS": 30, "IQ1_M": 31}
    same |= {"F32": 0, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37}
    mixed = {"Q3_K_S": (11, "Q3_K"), "Q3_K_M": (12, "Q3_K"), "Q3_K_L": (13, "Q3_K"), "Q4_K_S": (14, "Q4_K")}
    mixed |= {"Q4_K_M": (15, "Q4_K"), "Q5_K_S": (16, "Q5_K"), "Q5_K_M": (17, "Q5_K"), "Q2_K_S": (21, "Q2_K")}
    mixed |= {"IQ3_XS": (22, "IQ3_S"), "IQ3_M": (27, "IQ3_S"), "IQ2_S": (28, "IQ2_XS"), "IQ2_M": (29, "IQ2_S")}
    mixed |= {"MXFP4_MOE": (38, "MXFP4")}
    mixed |= {name: (number, name) for name, number in same.items()}
    types = [FileType(name, number, format_by_name(format)) for name, (number, format) in mixed.items()]
    return {type.name: type for type in sorted(types, key=lambda type: type.number)}


FILE_TYPES: dict[str, FileType] = _table()
"""File types by name, in the order of their numbers."""

COPY = "COPY"
"""The name that asks for the tensors as they are."""

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}


def file_type_by_name(name: str) -> FileType:
    """The type called ``name`` in any case, by an alias (Q4_K: Q4_K_M) or by its number.

    Raises ValueError, listing the names, for an unknown one.
    """
    key = text("name", name).upper()
    key = _ALIASES.get(key, key)
    found = FILE_TYPES.get(key) or next((type for type in FILE_TYPES.values() if str(type.number) == name), None)
    if found is None:
        raise ValueError(f"unknown quantization type {name!r}; expected one of {', '.join(FILE_TYPES)}, {COPY}")
    return found
