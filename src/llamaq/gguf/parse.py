"""Header, metadata and tensor table of one GGUF file, believed only as far as the file's size allows.

Everything here works on one buffer and knows no files: `file.py` hands in a mapping, `writer.py` a header
that it is about to write. A count is checked against the bytes left before anything is allocated for it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import numpy as np

from llamaq.errors import GGUFError
from llamaq.formats.table import FORMATS
from llamaq.gguf.array import GGUFArray, packed_end
from llamaq.gguf.foreign import identify
from llamaq.gguf.types import (
    DAMAGED,
    ByteOrder,
    Scalar,
    TensorInfo,
    ValueType,
    align_up,
    refusal,
    shown,
)

__all__ = ["DEFAULT_ALIGNMENT", "MAGIC", "Contents", "Value", "parse"]

Value = Scalar | GGUFArray

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 24
_MAX_KEY_BYTES = 65535
_MAX_NAME_BYTES = 63  # ggml keeps names in 64 bytes with a terminating zero
_MAX_DIMS = 4
_MIN_ENTRY_BYTES = 8 + 1 + 4 + 1  # key length, key, type, value
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # name length, name, dimension count, one dimension, type, offset


@dataclass(frozen=True)
class Contents:
    """What one file says about itself; ``types`` holds each value's type, of arrays that of the elements."""

    version: int
    byte_order: ByteOrder
    alignment: int
    metadata: dict[str, Value]
    types: dict[str, ValueType]
    tensors: dict[str, TensorInfo]


def parse(
    data: memoryview, path: str, *, shard: int = 0, file_size: int | None = None, remedy: str = DAMAGED
) -> Contents:
    """Reads the front part of a GGUF file (versions 2 and 3, either byte order).

    ``data`` holds at least the metadata and the tensor table, ``file_size`` is the size of the whole file
    where that is more. Raises GGUFError, with ``path``, byte offset and ``remedy``, for what is not sound.
    """
    version, byte_order = _read_version(data, path)
    cursor = _Cursor(data, path, byte_order, remedy)
    cursor.skip(8, "magic and version")
    n_tensors = cursor.count(_MIN_TENSOR_BYTES, "tensors")
    n_entries = cursor.count(_MIN_ENTRY_BYTES, "metadata entries")

    metadata: dict[str, Value] = {}
    types: dict[str, ValueType] = {}
    for index in range(n_entries):
        _read_entry(cursor, index, metadata, types)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int)  # _check_alignment saw to it

    tensors: dict[str, TensorInfo] = {}
    for index in range(n_tensors):
        _read_tensor(cursor, index, shard, tensors)
    start = align_up(cursor.position, alignment)
    tensors = _place(cursor, tensors, start, alignment, len(data) if file_size is None else file_size)
    return Contents(version, byte_order, alignment, metadata, types, tensors)


def _read_version(data: memoryview, path: str) -> tuple[int, ByteOrder]:
    """Version and byte order: a version is a small number, so its zero bytes tell which end comes first."""
    if data[:4] != MAGIC:
        what, remedy = identify(bytes(data[:64]))
        raise refusal(path, 0, "header", f"the magic {MAGIC!r} of a GGUF file", what, remedy)
    if len(data) < 8:
        raise refusal(path, 4, "header", "4 bytes of version", f"{len(data) - 4} to the end of the file")
    field = bytes(data[4:8])
    byte_order: ByteOrder = "big" if field[:2] == b"\0\0" else "little"
    version = int.from_bytes(field, byte_order)
    if version in (2, 3):
        return version, byte_order
    if version == 1:
        remedy = "it is a draft of August 2023: convert the original model again, or download a newer GGUF of it"
    else:
        remedy = "update llamaq if the file is newer than it; else " + DAMAGED
    raise refusal(path, 4, "header", "GGUF version 2 or 3", f"version {version}", remedy)


class _Cursor:
    """A position in the file; ``where`` names the part being read, for messages."""

    def __init__(self, data: memoryview, path: str, byte_order: ByteOrder, remedy: str) -> None:
        self.data = data
        self.path = path
        self.byte_order = byte_order
        self.remedy = remedy
        self.position = 0
        self.where = "header"
        prefix = "<" if byte_order == "little" else ">"
        self._structs = {type: struct.Struct(prefix + type.code) for type in ValueType if type.code}

    def refuse(self, at: int, expected: str, got: object, remedy: str | None = None) -> GGUFError:
        return refusal(self.path, at, self.where, expected, got, remedy or self.remedy)

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def skip(self, size: int, what: str) -> int:
        """Moves past ``size`` bytes, which must be there, and returns where they start."""
        start = self.position
        if size > self.left:
            raise self.refuse(start, f"{size} bytes of {what}", f"{self.left} bytes to the end of the file")
        self.position += size
        return start

    def number(self, type: ValueType, what: str) -> int | float:
        layout = self._structs[type]
        value: int | float = layout.unpack_from(self.data, self.skip(layout.size, what))[0]
        return value

    def integer(self, type: ValueType, what: str) -> int:
        return int(self.number(type, what))

    def count(self, min_bytes: int, what: str) -> int:
        """A 64-bit count of things of at least ``min_bytes`` each."""
        at = self.position
        count = self.integer(ValueType.UINT64, f"the count of {what}")
        if count * min_bytes > self.left:
            room = self.left // min_bytes
            raise self.refuse(at, f"at most {room} {what} in the {self.left} bytes left", count)
        return count

    def text(self, what: str) -> str:
        length = self.integer(ValueType.UINT64, f"the length of {what}")
        start = self.skip(length, what)
        raw = bytes(self.data[start : self.position])
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(start + error.start, f"UTF-8 in {what}", shown(raw)) from None

    def type(self, what: str) -> ValueType:
        at = self.position
        number = self.integer(ValueType.UINT32, what)
        if number > ValueType.FLOAT64:
            raise self.refuse(at, f"a value type from 0 to {ValueType.FLOAT64:d}", number)
        return ValueType(number)


def _read_entry(cursor: _Cursor, index: int, metadata: dict[str, Value], types: dict[str, ValueType]) -> None:
    cursor.where = f"metadata entry {index}"
    at = cursor.position
    key = cursor.text("the key")
    if not 0 < cursor.position - at - 8 <= _MAX_KEY_BYTES:
        raise cursor.refuse(at, f"a key of 1 to {_MAX_KEY_BYTES} bytes", shown(key))
    cursor.where = f"key {shown(key)}"
    if key in metadata:
        raise cursor.refuse(at, "each key once", "a second entry")
    type = cursor.type("the value's type")
    at = cursor.position
    if type is ValueType.ARRAY:
        array = _read_array(cursor)
        metadata[key], types[key] = array, array.element_type
    else:
        metadata[key], types[key] = _read_scalar(cursor, type), type
    if key == "general.alignment":
        _check_alignment(cursor, at, metadata[key], type)


def _read_scalar(cursor: _Cursor, type: ValueType) -> Scalar:
    if type is ValueType.STRING:
        return cursor.text("the value")
    if type is not ValueType.BOOL:
        return cursor.number(type, "the value")
    at = cursor.position
    value = cursor.number(ValueType.UINT8, "the value")
    if value > 1:
        raise cursor.refuse(at, "a boolean, 0 or 1", value)
    return value == 1


def _read_array(cursor: _Cursor) -> GGUFArray:
    at = cursor.position
    type = cursor.type("the elements' type")
    if type is ValueType.ARRAY:
        raise cursor.refuse(at, "an array of numbers, booleans or strings", "an array of arrays")
    if type is ValueType.STRING:
        return _read_strings(cursor)
    itemsize = struct.calcsize("<" + type.code)
    length = cursor.count(itemsize, "elements")
    start = cursor.skip(length * itemsize, "elements")
    packed = cursor.data[start : cursor.position]
    if type is ValueType.BOOL and length:
        values = np.frombuffer(packed, dtype=np.uint8)
        first = int(values.argmax())
        if values[first] > 1:
            raise cursor.refuse(start + first, "booleans, 0 or 1", int(values[first]))
    return GGUFArray(type, length, packed, cursor.byte_order)


def _read_strings(cursor: _Cursor) -> GGUFArray:
    """Strings of an array may hold any bytes (see `GGUFArray`); their lengths must stay inside the file."""
    length = cursor.count(8, "strings")
    start = cursor.position
    end = packed_end(cursor.data, start, length, cursor.byte_order)
    if end is None:
        for index in range(length):  # the slow walk finds the string to blame
            size = cursor.integer(ValueType.UINT64, f"the length of string {index}")
            cursor.skip(size, f"string {index}")
        raise AssertionError("both walks over the strings must agree")
    cursor.position = end
    return GGUFArray(ValueType.STRING, length, cursor.data[start:end], cursor.byte_order)


def _check_alignment(cursor: _Cursor, at: int, value: Value, type: ValueType) -> None:
    if type is not ValueType.UINT32:
        raise cursor.refuse(at, "a UINT32", f"{type.name}")
    assert isinstance(value, int)
    if value.bit_count() != 1 or not 8 <= value <= _MAX_ALIGNMENT:
        raise cursor.refuse(at, f"a power of two from 8 to {_MAX_ALIGNMENT}", value)


def _read_tensor(cursor: _Cursor, index: int, shard: int, tensors: dict[str, TensorInfo]) -> None:
    """Reads one entry; its ``offset`` still counts from the start of the data."""
    cursor.where = f"tensor {index}"
    at = cursor.position
    name = cursor.text("the name")
    if not 0 < cursor.position - at - 8 <= _MAX_NAME_BYTES:
        raise cursor.refuse(at, f"a name of 1 to {_MAX_NAME_BYTES} bytes", shown(name))
    cursor.where = f"tensor {shown(name)}"
    if name in tensors:
        raise cursor.refuse(at, "each tensor once", "a second entry")

    at = cursor.position
    n_dims = cursor.integer(ValueType.UINT32, "the number of dimensions")
    if not 1 <= n_dims <= _MAX_DIMS:
        raise cursor.refuse(at, f"1 to {_MAX_DIMS} dimensions", n_dims)
    at = cursor.position
    dims = [cursor.integer(ValueType.UINT64, "a dimension") for _ in range(n_dims)]
    if 0 in dims or max(dims) >= 1 << 63:
        raise cursor.refuse(at, "dimensions from 1 to 2^63 - 1", dims)

    type_at = cursor.position
    number = cursor.integer(ValueType.UINT32, "the format")
    format = FORMATS.get(number)
    if format is None:
        remedy = "ggml dropped it, or llamaq is older than it: update llamaq, or quantize the model again"
        raise cursor.refuse(type_at, "the number of a known tensor format", number, remedy)
    if dims[0] % format.block:
        raise cursor.refuse(at, f"rows of a multiple of {format.block} elements for {format.name}", dims[0])

    offset = cursor.integer(ValueType.UINT64, "the data's offset")
    nbytes = math.prod(dims) // format.block * format.block_bytes
    tensors[name] = TensorInfo(name, format, tuple(reversed(dims)), nbytes, offset, shard)


def _place(
    cursor: _Cursor, tensors: dict[str, TensorInfo], start: int, alignment: int, file_size: int
) -> dict[str, TensorInfo]:
    """Makes offsets absolute, and sees that every tensor lies aligned, in the file, apart from the others."""
    placed: dict[str, TensorInfo] = {}
    for info in tensors.values():
        cursor.where = f"tensor {shown(info.name)}"
        at = start + info.offset
        if info.offset % alignment:
            raise cursor.refuse(at, f"data at a multiple of the alignment {alignment}", info.offset)
        if at + info.nbytes > file_size:
            expected = f"{info.nbytes} bytes of data for {info.format.name} {info.shape}"
            raise cursor.refuse(at, expected, f"{max(0, file_size - at)} bytes to the end of the file")
        placed[info.name] = replace(info, offset=at)
    before: TensorInfo | None = None
    for info in sorted(placed.values(), key=lambda info: info.offset):
        if before is not None and info.offset < before.offset + before.nbytes:
            cursor.where = f"tensor {shown(info.name)}"
            taken = f"data that tensor {shown(before.name)} holds up to byte {before.offset + before.nbytes}"
            raise cursor.refuse(info.offset, "data of its own", taken)
        before = info
    return placed
