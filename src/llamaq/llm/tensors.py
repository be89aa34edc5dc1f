"""A model's tensors as NumPy arrays: the bytes of the file, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import decode
from llamaq.gguf import GGUFFile, TensorInfo

__all__ = ["Tensor", "Tensors"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. ``np.asarray`` of it gives its numbers."""

    info: TensorInfo
    raw: NDArray[np.uint8]
    """The bytes, read-only, (*outer dimensions, bytes of a row): a view of the mapped file, not a copy."""

    @property
    def format(self) -> str:
        """Such as "Q4_0"."""
        return self.info.format.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first: (outputs, inputs) of a matrix."""
        return self.info.shape

    def numbers(self) -> NDArray[np.float32]:
        """float32 of ``shape``: of F32 a read-only view, of other formats decoded anew at each call."""
        if self.format == "F32":
            return self.raw.view(np.float32)
        return decode(self.info.format, self.raw)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numbers()
        return array.astype(dtype or array.dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"Tensor({self.format}, {self.shape})"


class Tensors(Mapping[str, Tensor]):
    """Tensors by name, in the file's order. Arrays stay valid after the model is closed."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Tensor:
        return Tensor(self._file.tensors[name], self._file.data(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.tensors)

    def __len__(self) -> int:
        return len(self._file.tensors)
