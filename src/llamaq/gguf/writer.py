"""Writes GGUF version 3, little-endian: whole, or not at all."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.atomic import atomic_file
from llamaq.errors import GGUFError
from llamaq.formats.table import Format
from llamaq.gguf.array import GGUFArray
from llamaq.gguf.parse import DEFAULT_ALIGNMENT, MAGIC, parse
from llamaq.gguf.types import Scalar, TensorInfo, ValueType, align_up

__all__ = ["Buffer", "TensorData", "Writable", "gguf_size", "write_gguf"]

Buffer = bytes | bytearray | memoryview | NDArray[Any]
Writable = Scalar | bytes | np.generic | GGUFArray | NDArray[Any] | Sequence[Scalar | bytes]

_REMEDY = "nothing was written: correct what is to be written"
_NUMPY_TYPES = {np.dtype(type.code): type for type in ValueType if type.code}


class TensorData(NamedTuple):
    """A tensor to write: ``shape`` rows first, ``data`` its bytes, or an iterable of pieces of them."""

    name: str
    format: Format
    shape: tuple[int, ...]
    data: Buffer | Iterable[Buffer]


def write_gguf(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Writable],
    tensors: Iterable[TensorData] = (),
    *,
    types: Mapping[str, ValueType] | None = None,
) -> None:
    """Writes a file that appears under ``path`` only when it is complete and on the disk.

    ``types`` gives the type of a value (of an array, of its elements) by key; `GGUFFile.metadata_types` are
    those of a file. Without it NumPy scalars and arrays keep theirs, an int is the first of UINT32, INT32,
    UINT64 and INT64 that holds it, a float is FLOAT32, and a sequence takes one type for all its elements.
    ``general.alignment`` in ``metadata`` aligns the tensors, by default to 32 bytes. Data given as an
    iterable is asked for when its turn comes, so that a model may be larger than the memory.

    Raises GGUFError, before anything is written, for what `GGUFFile` would refuse to read, and later for data
    of the wrong size or a full disk. Whatever is raised, a file at ``path`` stays as it was; links, pipes and
    devices are as `atomic_file` has them.
    """
    target = Path(path)
    listed = list(tensors)
    header, places, size = _layout(str(target), metadata, listed, types or {})
    with atomic_file(target, GGUFError) as file:
        at = file.write(header)  # counted, as a pipe cannot tell
        for tensor, place in zip(listed, places, strict=True):
            file.write(bytes(place.offset - at))
            _stream(file, target, tensor, place.nbytes)
            at = place.offset + place.nbytes
        file.write(bytes(size - at))  # ggml reads the last tensor with its padding


def gguf_size(
    metadata: Mapping[str, Writable], tensors: Iterable[TensorData], *, types: Mapping[str, ValueType] | None = None
) -> int:
    """Bytes of the file that `write_gguf` would write; raises as it does. The tensors' data is not looked at."""
    return _layout("new file", metadata, list(tensors), types or {})[2]


def _layout(
    path: str, metadata: Mapping[str, Writable], tensors: Sequence[TensorData], types: Mapping[str, ValueType]
) -> tuple[bytes, list[TensorInfo], int]:
    """The file up to its data, where each tensor goes, and the file's size.

    The reader itself says whether all of it is sound.
    """
    parts = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        try:
            parts += (_packed_text(key), _packed_value(value, types.get(key)))
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            raise GGUFError(f"{path}: key {key!r}: cannot be written: {error}; {_REMEDY}") from None

    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise GGUFError(f"{path}: key 'general.alignment': expected a power of two, got {alignment!r}; {_REMEDY}")
    offset = 0
    for tensor in tensors:
        try:
            parts.append(_packed_tensor(tensor, offset))
        except (ValueError, struct.error) as error:
            raise GGUFError(f"{path}: tensor {tensor.name!r}: cannot be written: {error}; {_REMEDY}") from None
        nbytes = math.prod(tensor.shape) // tensor.format.block * tensor.format.block_bytes
        offset = align_up(offset + nbytes, alignment)

    header = b"".join(parts)
    size = align_up(len(header), alignment) + offset
    contents = parse(memoryview(header), path, file_size=size, remedy=_REMEDY)
    return header, list(contents.tensors.values()), size


def _packed_tensor(tensor: TensorData, offset: int) -> bytes:
    dims = tensor.shape[::-1]
    return _packed_text(tensor.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.format.id, offset)


def _packed_text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _packed_value(value: Writable, type: ValueType | None) -> bytes:
    """A value's type and bytes; its own type where ``type`` is None."""
    if isinstance(value, GGUFArray) and type in (None, value.element_type):
        head = struct.pack("<IIQ", ValueType.ARRAY, value.element_type, len(value))
        return head + value.little_endian()
    if isinstance(value, bool | int | float | str | bytes | np.generic):
        type = _own_type(value, [value]) if type is None else type
        return struct.pack("<I", type) + _packed_items([value], type)
    items = value.tolist() if isinstance(value, GGUFArray | np.ndarray) else list(value)
    type = _own_type(value, items) if type is None else type
    return struct.pack("<IIQ", ValueType.ARRAY, type, len(items)) + _packed_items(items, type)


def _packed_items(items: list[Any], type: ValueType) -> bytes:
    if type is ValueType.STRING:
        return b"".join(_packed_text(item) for item in items)
    if type is ValueType.ARRAY:
        raise TypeError("expected the type of the elements, got ARRAY")
    if type is ValueType.BOOL and not all(isinstance(item, bool | np.bool_) for item in items):
        raise TypeError("expected booleans")
    return struct.pack(f"<{len(items)}{type.code}", *items)


def _own_type(value: Writable, items: list[Any]) -> ValueType:
    """The type of a NumPy value, else the one that fits all ``items`` of the value."""
    if isinstance(value, np.generic | np.ndarray):
        type = _NUMPY_TYPES.get(value.dtype.newbyteorder("="))
        if type is not None:
            return type
    if items and all(isinstance(item, bool) for item in items):
        return ValueType.BOOL
    if items and all(isinstance(item, int) for item in items):
        for candidate in (ValueType.UINT32, ValueType.INT32, ValueType.UINT64, ValueType.INT64):
            limits = np.iinfo(candidate.code)
            if limits.min <= min(items) and max(items) <= limits.max:
                return candidate
    elif items and all(isinstance(item, int | float) for item in items):
        return ValueType.FLOAT32
    if items and all(isinstance(item, str | bytes) for item in items):
        return ValueType.STRING
    kinds = ", ".join(sorted({item.__class__.__name__ for item in items})) or "no elements"
    raise TypeError(f"expected booleans, numbers or strings that one type holds, got {kinds}")


def _stream(file: BinaryIO, path: Path, tensor: TensorData, size: int) -> None:
    """Writes a tensor's data, and sees that it has the size that the header promises."""
    written = 0
    for piece in _pieces(tensor.data):
        written += piece.nbytes
        if written > size:
            break
        file.write(piece)
    if written != size:
        raise GGUFError(
            f"{path}: tensor {tensor.name!r}: expected {size} bytes for {tensor.format.name} {tensor.shape}, "
            f"got {written}{' or more' if written > size else ''}; {_REMEDY}"
        )


def _pieces(data: Buffer | Iterable[Buffer]) -> Iterator[memoryview]:
    if isinstance(data, np.ndarray):
        yield np.ascontiguousarray(data).data
    elif isinstance(data, bytes | bytearray | memoryview):
        yield memoryview(data)
    else:
        for piece in data:
            yield from _pieces(piece)
