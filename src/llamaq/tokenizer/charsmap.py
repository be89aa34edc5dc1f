"""SentencePiece's compiled normalization: a trie of byte strings and what each is replaced by.

The blob holds a 32-bit length, a double array of 32-bit units, and NUL-terminated replacements. In a unit,
bits 0 to 7 and 31 label it, bit 8 says that a key ends here, bits 10 to 30 (shifted by 8 more where bit 9 is
set) are the offset to its children. Source: the format of Yata's darts-clone.
"""

from __future__ import annotations

import numpy as np

from llamaq.errors import TokenizerError

__all__ = ["Charsmap"]

_REPLACEMENT = "\ufffd".encode()
_LABEL, _VALUE = 0x800000FF, 0x7FFFFFFF


class Charsmap:
    """Replaces the longest known prefix, again and again; what is not known stays."""

    def __init__(self, blob: bytes) -> None:
        """``blob``: the bytes of ``tokenizer.ggml.precompiled_charsmap``; empty for none."""
        size = int.from_bytes(blob[:4], "little")
        if blob and (len(blob) < 8 or size < 4 or size % 4 or size + 4 >= len(blob) or blob[-1]):
            raise TokenizerError(
                f"tokenizer.ggml.precompiled_charsmap, {len(blob)} bytes with a table of {size}, is damaged; "
                "convert the model again"
            )
        units = np.frombuffer(blob[4 : 4 + size], dtype="<u4")
        self.spans_spaces = bool(((units & np.uint32(_LABEL)) == ord(" ")).any())  # whether a key may have one
        self._units: list[int] = units.tolist()
        self._replacements = blob[4 + size :]

    def normalize(self, text: str) -> str:
        """The normalized text; a lone surrogate, which stands for a raw byte, becomes U+FFFD."""
        data = text.encode("utf-8", "surrogateescape")
        normalized = bytearray()
        position = 0
        while position < len(data):
            end, replacement = self._longest_prefix(data, position)
            normalized += replacement
            position = end
        return normalized.decode("utf-8", "replace")

    def _longest_prefix(self, data: bytes, start: int) -> tuple[int, bytes]:
        """End of the longest key that begins at ``start``, and its replacement; else one character."""
        units = self._units
        end, value = start, 0
        node = _children(units[0]) if units else 0
        for position in range(start, len(data) if units else start):
            byte = data[position]
            node ^= byte
            if not byte or node >= len(units) or units[node] & _LABEL != byte:
                break
            unit = units[node]
            node ^= _children(unit)
            if unit >> 8 & 1:
                end, value = position + 1, self._value(node)
        if end > start:
            return end, self._replacements[value : self._replacements.index(0, value)]
        return _one_character(data, start)

    def _value(self, node: int) -> int:
        value = self._units[node] & _VALUE if node < len(self._units) else len(self._replacements)
        if value >= len(self._replacements):
            raise TokenizerError("tokenizer.ggml.precompiled_charsmap points outside itself: the file is damaged")
        return value


def _children(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _one_character(data: bytes, start: int) -> tuple[int, bytes]:
    lead = data[start]
    end = start + (1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
    char = data[start:end]
    try:
        char.decode()
    except UnicodeDecodeError:
        return start + 1, _REPLACEMENT
    return end, char
