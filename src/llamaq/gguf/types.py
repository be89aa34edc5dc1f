"""The names of a GGUF file's parts: value types, tensor entries, and the one form of a refusal.

The format is described in ggml's `docs/gguf.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from llamaq.errors import GGUFError
from llamaq.formats.table import Format

__all__ = ["DAMAGED", "ByteOrder", "Scalar", "TensorInfo", "ValueType", "align_up", "refusal", "shown"]

ByteOrder = Literal["little", "big"]
Scalar = bool | int | float | str

DAMAGED = "the file is damaged or incomplete: download or convert it again"


class ValueType(IntEnum):
    """The type of a metadata value, by its number in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12

    @property
    def code(self) -> str:
        """This type's letter in both `struct` and NumPy; "" for STRING and ARRAY, which have no one size."""
        return "BbHhIif?  Qqd"[self].strip()


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor table, checked against the file's size.

    ``shape`` is in NumPy order (rows first, the reverse of GGUF's dimensions), ``nbytes`` the data's size,
    ``offset`` its first byte from the start of its file, ``shard`` the index of that file in a split set.
    """

    name: str
    format: Format
    shape: tuple[int, ...]
    nbytes: int
    offset: int
    shard: int = 0

    @property
    def n_elements(self) -> int:
        """How many weights the tensor holds."""
        return math.prod(self.shape)


def align_up(offset: int, alignment: int) -> int:
    """The first multiple of ``alignment`` that is not below ``offset``."""
    return -(-offset // alignment) * alignment


def shown(text: str | bytes) -> str:
    """``text`` quoted for a message, shortened where a hostile file made it long."""
    return repr(text) if len(text) <= 80 else f"{text[:60]!r}... ({len(text)} long)"


def refusal(path: str, offset: int, where: str, expected: str, got: object, remedy: str = DAMAGED) -> GGUFError:
    """The error for one finding: which file, where in it, what should be there, what is there, what to do."""
    return GGUFError(f"{path}: byte {offset}: {where}: expected {expected}, got {got}; {remedy}")
