"""Builds GGUF files for the tests, independently of the library's writer: any version, order or defect."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llamaq.gguf import GGUFFile, TensorData, write_gguf

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
CODES = {
    UINT8: "B",
    INT8: "b",
    UINT16: "H",
    INT16: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "B",
    UINT64: "Q",
    INT64: "q",
    FLOAT64: "d",
}

Entry = tuple[str | bytes, int, Any]
"""Key, type, value; of an array the value is (element type, elements)."""
Tensor = tuple[str | bytes, Sequence[int], int, bytes]
"""Name, dimensions in GGUF order, format number, data."""


def text(value: str | bytes, order: str = "<") -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(order + "Q", len(raw)) + raw


def packed(type: int, value: Any, order: str = "<") -> bytes:
    if type == STRING:
        return text(value, order)
    if type == ARRAY:
        element_type, elements = value
        head = struct.pack(order + "IQ", element_type, len(elements))
        return head + b"".join(packed(element_type, element, order) for element in elements)
    return struct.pack(order + CODES[type], value)


def build(
    entries: Iterable[Entry] = (),
    tensors: Sequence[Tensor] = (),
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
    offsets: Sequence[int] | None = None,
) -> bytes:
    """A whole file; ``offsets`` overrides where the tensor table says that the data lies."""
    entries = list(entries)
    parts = [b"GGUF", struct.pack(order + "IQQ", version, len(tensors), len(entries))]
    for key, type, value in entries:
        parts += [text(key, order), struct.pack(order + "I", type), packed(type, value, order)]
    data = b""
    for index, (name, dims, format, raw) in enumerate(tensors):
        offset = len(data) if offsets is None else offsets[index]
        parts += [text(name, order), struct.pack(f"{order}I{len(dims)}QIQ", len(dims), *dims, format, offset)]
        data += raw
        if index + 1 < len(tensors):
            data += bytes(-len(data) % alignment)
    head = b"".join(parts)
    return head + (bytes(-len(head) % alignment) + data if tensors else b"")


def opened(folder: Path, content: bytes) -> GGUFFile:
    """The file with this content, written into ``folder``."""
    path = folder / "made.gguf"
    path.write_bytes(content)
    return GGUFFile.open(path)


EVERY_TYPE: list[Entry] = [
    ("t.u8", UINT8, 255),
    ("t.i8", INT8, -128),
    ("t.u16", UINT16, 65535),
    ("t.i16", INT16, -32768),
    ("t.u32", UINT32, 2**32 - 1),
    ("t.i32", INT32, -(2**31)),
    ("t.f32", FLOAT32, 0.5),
    ("t.false", BOOL, 0),
    ("t.true", BOOL, 1),
    ("t.str", STRING, "grüße\0✓"),
    ("t.empty", STRING, ""),
    ("t.u64", UINT64, 2**64 - 1),
    ("t.i64", INT64, -(2**63)),
    ("t.f64", FLOAT64, 1e300),
    *((f"a.{type}", ARRAY, (type, [0, 1, 1])) for type in CODES),
    ("a.none", ARRAY, (UINT64, [])),
    ("a.str", ARRAY, (STRING, ["a", "", "bß", "x" * 300])),
    ("a.bytes", ARRAY, (STRING, [b"\xe2\x82", b"\xac", b"\0\0\0\0\0\0\0"])),
]
"""A value of each type, and arrays of each."""


def copy_with(entries: Mapping[str, Any], source: Path, target: Path) -> None:
    """A copy of a model file with further metadata."""
    with GGUFFile.open(source) as file:
        tensors = [TensorData(name, t.format, t.shape, file.data(name)) for name, t in file.tensors.items()]
        write_gguf(target, {**file.metadata, **entries}, tensors, types=file.metadata_types)
