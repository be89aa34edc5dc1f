"""NumPy specification of GGUF's tensor formats: sizes, decoding, encoding, byte order.

Data is a uint8 array whose last axis holds whole blocks of a row, values are float32. Everything is
checked bit for bit against the ``gguf`` package, and the C++ code against this.
"""

from __future__ import annotations

from .blocks import BLOCKS, byteswap
from .codec import can_decode, can_encode, can_unpack, decode, encode, unpack
from .table import FORMATS, Format, format_by_name
from .unpacked import Unpacked

__all__ = [
    "BLOCKS",
    "FORMATS",
    "Format",
    "Unpacked",
    "byteswap",
    "can_decode",
    "can_encode",
    "can_unpack",
    "decode",
    "encode",
    "format_by_name",
    "unpack",
]
