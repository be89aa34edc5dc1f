"""Checkpoints of every family with weights that follow from their names, and what becomes of them (recorded)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATA", "weights"]

DATA = Path(__file__).parents[1] / "data" / "hf_families.json"
"""By name: config.json, the tensors' shapes, and the keys and tensors (shape, CRC-32 of the data in F32) of the file
that llama.cpp's converter made (convert/record_families.py)."""


def weights(shapes: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Normal random numbers, seeded with each tensor's name."""
    return {
        name: np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape), np.float32)
        for name, shape in shapes.items()
    }
