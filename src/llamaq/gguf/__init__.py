"""GGUF model files: reading them without trust, writing them whole or not at all."""

from __future__ import annotations

from .array import GGUFArray
from .file import GGUFFile
from .parse import Value
from .types import TensorInfo, ValueType
from .writer import TensorData, write_gguf

__all__ = ["GGUFArray", "GGUFFile", "TensorData", "TensorInfo", "Value", "ValueType", "write_gguf"]
