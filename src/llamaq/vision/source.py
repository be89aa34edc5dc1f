"""What a projector is read from: a file, or what shows itself as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Info

__all__ = ["Source"]


class Source(Protocol):
    """Keys and tensors by llama.cpp's names (``gguf.GGUFFile`` is one)."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, Info]: ...

    def data(self, name: str) -> NDArray[np.uint8]:
        """Rows of a tensor: uint8 (*outer, bytes of a row)."""

    def check(self) -> None:
        """Raises ``GGUFError`` where a file is no longer what it was."""
