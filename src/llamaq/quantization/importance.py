"""Which columns of the weights count: the errors that are made small are weighted by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import QuantizationError
from llamaq.gguf import TensorInfo
from llamaq.gguf.imatrix import read
from llamaq.gguf.writer import Writable

__all__ = ["Importance"]

_LEAST_WEIGHT = 1e-8  # the least weight, as a share of the greatest


@dataclass(frozen=True)
class Importance:
    """Mean squared activations, float32, by the tensor's name: of all columns, or of those of each stacked matrix.

    ``metadata`` tells in the quantized file where they come from (llama.cpp's keys).
    """

    means: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    metadata: Mapping[str, Writable] = field(default_factory=dict)

    @classmethod
    def of(cls, imatrix: str | os.PathLike[str] | Mapping[str, NDArray[np.float32]]) -> Importance:
        """Of means by the tensor's name, or of a file that ``llamaq imatrix`` or llama-imatrix wrote.

        Raises GGUFError for any other file.
        """
        if isinstance(imatrix, Mapping):
            return cls(imatrix)
        found = read(imatrix)
        metadata: dict[str, Writable] = {
            "quantize.imatrix.file": os.fspath(imatrix),
            "quantize.imatrix.entries_count": np.uint32(len(found.entries)),
            "quantize.imatrix.chunks_count": np.uint32(found.chunks),
        }
        if found.datasets:
            metadata["quantize.imatrix.dataset"] = found.datasets[0]
        return cls(found.means(), metadata)

    def check(self, info: TensorInfo, where: str) -> None:
        """Raises QuantizationError, which says ``where``, if it is of other columns than the tensor has."""
        values = self.means.get(info.name)
        stacked = info.shape[0] if len(info.shape) > 2 else 1
        if values is not None and values.size not in {info.shape[-1], stacked * info.shape[-1]}:
            raise QuantizationError(
                f"{where}: expected importance for {info.shape[-1]} columns of {stacked} matrices, got "
                f"{values.shape}; the importance matrix belongs to another model"
            )

    def weights(self, info: TensorInfo, row: int) -> NDArray[np.float32] | None:
        """Weights of the columns of this row's matrix, float32 (columns,), 1 for the greatest; None: all alike."""
        values = self.means.get(info.name)
        if values is None:
            return None
        matrices = values.reshape(-1, info.shape[-1])
        weights = matrices[row // info.shape[-2] if len(matrices) > 1 else 0].astype(np.float32)
        # Only their ratios count. A column that was never used still decides where nothing else does.
        return np.maximum(weights / weights.max(), np.float32(_LEAST_WEIGHT)) if weights.max() > 0 else None
