"""Rows of one format as rows of another: the searches of ``csrc/kernels/encode``, or the gguf package's encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.topology import default_threads
from llamaq.errors import QuantizationError, naming
from llamaq.formats import Format, decode, encode
from llamaq.quantization.plan import TensorPlan

__all__ = ["REFERENCE_FORMATS", "Search"]

REFERENCE_FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
"""Formats that the gguf package can write."""


class Search:
    """Searches on ``threads`` threads; None: one for each performance core."""

    def __init__(self, threads: int | None = None, *, reference: bool = False) -> None:
        from llamaq import _core

        self._core, self._reference = _core, reference
        self._team = _core.ThreadTeam(threads or default_threads().threads, False)

    def __call__(
        self, tensor: TensorPlan, first: int, data: NDArray[np.uint8], weights: NDArray[np.float32] | None
    ) -> NDArray[np.uint8]:
        """Rows of ``tensor`` from number ``first`` on, uint8 (rows, bytes of a row), in the format that it will have.

        Raises QuantizationError for weights that are no numbers, and where there is no reference encoding.
        """
        source, target, cols = tensor.info.format, tensor.format, tensor.info.shape[-1]
        if self._reference and target.block > 1:
            bad, result = self._encoded(tensor, data)
        else:
            result = np.empty((len(data), tensor.row_bytes), np.uint8)
            bad = self._core.quantize(self._team, source.id, target.id, data, cols, weights, result)
        if bad is not None:
            raise QuantizationError(
                f"tensor {tensor.info.name!r}, row {first + bad}: expected finite weights, got NaN, infinity or "
                "more than 2 ** 50; the file is damaged or was converted wrongly: convert the model again"
            )
        return result

    def values(self, format: Format, data: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rows decoded, float32."""
        return self._core.dequantize(self._core.chosen_isa(), format.id, data).reshape(len(data), -1)

    def _encoded(self, tensor: TensorPlan, data: NDArray[np.uint8]) -> tuple[int | None, NDArray[np.uint8]]:
        if tensor.format.name not in REFERENCE_FORMATS:
            message = (
                f"tensor {tensor.info.name!r}: {tensor.format.name} has no bytes of the gguf package; expected "
                f"one of {', '.join(REFERENCE_FORMATS)} for every matrix (pure), or no reference"
            )
            raise naming(QuantizationError(message), "pure", "reference")
        values = decode(tensor.info.format, data)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=-1))
        return (int(bad[0]), data) if bad.size else (None, encode(tensor.format, values))
