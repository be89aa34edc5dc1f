"""Arrays of the metadata: they stay as packed in the file until somebody asks for their elements."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from llamaq.gguf.types import ByteOrder, Scalar, ValueType

__all__ = ["GGUFArray", "packed_end"]

_WINDOW = 1 << 17  # bytes that one vectorized search looks through
_STEPS = 1 << 12  # strings walked one by one where a search passed few, to bound the time of searches


class GGUFArray(Sequence[Scalar]):
    """A read-only sequence of one element type, decoded on demand.

    Strings come as `str`, where bytes that are not UTF-8 (vocabularies may hold pieces of characters) become
    lone surrogates: ``text.encode("utf-8", "surrogateescape")`` gives the exact bytes back, and so does
    `bytes_list`. The array keeps the file's mapping alive, also after the file was closed.
    """

    def __init__(self, element_type: ValueType, length: int, packed: memoryview, byte_order: ByteOrder) -> None:
        self.element_type = element_type
        self._length = length
        self._packed = packed
        self._byte_order = byte_order
        self._prefix = struct.Struct("<Q" if byte_order == "little" else ">Q")
        self._starts: list[int] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Scalar: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scalar]: ...
    def __getitem__(self, index: int | slice) -> Scalar | list[Scalar]:
        if isinstance(index, slice):
            return self._slice(range(*index.indices(self._length)))
        position = range(self._length)[index]  # a range has IndexError and negative indices as lists have them
        if self.element_type is not ValueType.STRING:
            value: Scalar = self.numpy()[position].item()
            return value
        if self._starts is None:
            self._starts = [start for start, _ in self._spans()]
        start = self._starts[position]
        end = start + self._prefix.unpack_from(self._packed, start - 8)[0]
        return _text(bytes(self._packed[start:end]))

    def _slice(self, positions: range) -> list[Scalar]:
        if self.element_type is not ValueType.STRING:
            return [value.item() for value in self.numpy()[list(positions)]]
        spans = list(islice(self._spans(), max(positions, default=-1) + 1))  # the first few cost only themselves
        return [_text(bytes(self._packed[start:end])) for start, end in (spans[i] for i in positions)]

    def __iter__(self) -> Iterator[Scalar]:
        return iter(self.tolist())

    def __repr__(self) -> str:
        return f"GGUFArray({self.element_type.name}, {self._length} elements)"

    def tolist(self) -> list[Any]:
        """All elements as Python values."""
        if self.element_type is ValueType.STRING:
            return [_text(raw) for raw in self.bytes_list()]
        values: list[Any] = self.numpy().tolist()
        return values

    def bytes_list(self) -> list[bytes]:
        """The strings as the file holds them; TypeError for an array of numbers."""
        self._require_strings(True)
        packed = self._packed.tobytes()
        return [packed[start:end] for start, end in self._spans()]

    def numpy(self) -> NDArray[Any]:
        """Numbers or booleans, shape (len,), read-only; TypeError for an array of strings.

        A view of the file where its byte order is the machine's own.
        """
        self._require_strings(False)
        dtype = np.dtype(("<" if self._byte_order == "little" else ">") + self.element_type.code)
        array = np.frombuffer(self._packed, dtype=dtype).astype(dtype.newbyteorder("="), copy=False)
        array.flags.writeable = False
        return array

    def little_endian(self) -> memoryview | bytes:
        """The elements packed as a little-endian file holds them."""
        if self._byte_order == "little":
            return self._packed
        if self.element_type is ValueType.STRING:
            return b"".join(struct.pack("<Q", len(raw)) + raw for raw in self.bytes_list())
        values = self.numpy()
        return values.astype(values.dtype.newbyteorder("<")).tobytes()

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Start and end of each string's bytes."""
        end, packed, unpack = 0, self._packed, self._prefix.unpack_from
        for _ in range(self._length):
            start = end + 8
            end = start + unpack(packed, end)[0]
            yield start, end

    def _require_strings(self, wanted: bool) -> None:
        if (self.element_type is ValueType.STRING) is not wanted:
            raise TypeError(f"{self!r}: numbers have numpy(), strings bytes_list(); both have tolist()")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def packed_end(data: memoryview, start: int, count: int, byte_order: ByteOrder) -> int | None:
    """Offset after ``count`` length-prefixed strings from ``start``; None where ``data`` ends before.

    A vocabulary has up to a million strings, and a Python step for each takes most of the time to open one.
    So a vectorized search finds them, and is believed only where its finds prove to be the chain of lengths.
    """
    unpack = struct.Struct("<Q" if byte_order == "little" else ">Q").unpack_from
    position = start
    while count:
        if byte_order == "little":
            leapt, position = _leap(data, position, count)
            count -= leapt
            if leapt >= _STEPS // 4:
                continue
        steps = min(count, _STEPS)
        for _ in range(steps):
            if position > len(data) - 8:
                return None
            position += 8 + unpack(data, position)[0]
        count -= steps
    return position if position <= len(data) else None


def _leap(data: memoryview, position: int, count: int) -> tuple[int, int]:
    """Passes up to ``count`` strings within one window; returns how many, and the offset after them.

    A string of 1 to 65535 bytes begins with a length whose upper six bytes are zero, and its text with a byte
    that is not. Every place that looks so is a candidate head. The leading ones, as long as each begins where
    the one before ends, are exactly what a walk string by string would visit.
    """
    window = np.frombuffer(data[position : position + _WINDOW], dtype=np.uint8)
    if len(window) < 9:
        return 0, position
    zero = window == 0
    pair = zero[2:-2] & zero[3:-1]
    six = pair[:-4] & pair[2:-2] & pair[4:]
    heads = np.flatnonzero(six & ~zero[8:])
    after = heads + 8 + window[heads] + 256 * window[heads + 1].astype(np.int64)
    linked = heads == np.concatenate(([0], after[:-1]))
    found = min(len(heads) if linked.all() else int(linked.argmin()), count)
    return (found, position + int(after[found - 1])) if found else (0, position)
