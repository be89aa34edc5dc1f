"""What a quantized format says, before any rounding: integers, scales and minimums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Unpacked"]


@dataclass(frozen=True)
class Unpacked:
    """Weights of (..., cols) elements as exact integers and scales, in the terms of docs/numerics.md.

    An element is worth ``scale * q + minimum``, or ``(scale * sub_scale) * q + minimum * sub_min`` where
    the format scales sub-blocks of 16. An absent field (None) stands for the factor 1, an
    absent ``minimum`` for nothing to add.

    q
        int8 (..., cols): zero point subtracted (Q4_0, Q5_0, Q3_K, Q6_K), unsigned as stored (Q4_1, Q5_1,
        Q2_K, Q4_K, Q5_K), the int8 of Q8_0, the codebook's value with its sign (IQ2, IQ3, IQ4), eight times
        the shifted one (IQ1), the doubled four-bit float (MXFP4, NVFP4), -1 … 2 (TQ1_0, TQ2_0, Q1_0, Q2_0).
    scale
        float32 (..., cols / 32): ``d``; ``d * sc`` of Q4_K and Q5_K; ``d * ls`` of IQ4_XS; of the IQ formats
        with ``sub_scale`` ``d / 8``, of the others ``d * (2s + 1)`` over 8 (IQ1_S, IQ2_XXS), 4 (IQ3_XXS) or 1
        (IQ3_S); ``2 ** (e - 128)`` of MXFP4; 1 of NVFP4.
    minimum
        float32 (..., cols / 32) or None: ``m`` of Q4_1 and Q5_1; ``-(dmin * mn)`` of Q4_K and Q5_K;
        ``-dmin`` of Q2_K.
    sub_scale
        (..., cols / 16) or None: int8, the integer scales of Q2_K, Q3_K and Q6_K, and ``2s + 1`` of IQ1_M,
        IQ2_XS and IQ2_S; float32, half the UE4M3 of NVFP4.
    sub_min
        int8 (..., cols / 16) or None: the integer minimums of Q2_K.
    """

    q: NDArray[np.int8]
    scale: NDArray[np.float32]
    minimum: NDArray[np.float32] | None = None
    sub_scale: NDArray[np.int8] | NDArray[np.float32] | None = None
    sub_min: NDArray[np.int8] | None = None

    def weights(self) -> NDArray[np.float32]:
        """The elements as float32 (..., cols), rounded as ggml's reference rounds them."""
        scale, minimum = self.scale, self.minimum
        if self.sub_scale is not None:
            scale = np.repeat(scale, 2, axis=-1) * self.sub_scale
        if minimum is not None and self.sub_min is not None:
            minimum = np.repeat(minimum, 2, axis=-1) * self.sub_min
        groups = self.q.reshape(*scale.shape, 32 if self.sub_scale is None else 16)
        values: NDArray[np.float32] = scale[..., None] * groups
        if minimum is not None:
            values += minimum[..., None]
        return values.reshape(self.q.shape)

    def as_rows(self, lead: tuple[int, ...], blocks: int) -> Unpacked:
        """Fields of shape (blocks in all, k), one line per block, as (*lead, ``blocks`` a row * k)."""

        def rows(x: NDArray[Any] | None) -> Any:
            return None if x is None else x.reshape(*lead, blocks * x.shape[-1])

        return Unpacked(rows(self.q), rows(self.scale), rows(self.minimum), rows(self.sub_scale), rows(self.sub_min))
