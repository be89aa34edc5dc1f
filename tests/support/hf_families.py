"""Checkpoints of every family with weights that follow from their names, and what becomes of them (recorded)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_llama import LETTERS, save
from llamaq.convert import convert
from llamaq.gguf import GGUFFile

__all__ = ["DATA", "RECORDED", "converted", "folder_of", "weights"]

DATA = Path(__file__).parents[1] / "data" / "hf_families.json"
"""By name: config.json, the tensors' shapes, and the keys and tensors (shape, CRC-32 of the data in F32) of the file
that llama.cpp's converter made (convert/record_families.py)."""
RECORDED: dict[str, Any] = json.loads(DATA.read_text())

Arrays = dict[str, NDArray[Any]]


def weights(shapes: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Normal random numbers, seeded with each tensor's name."""
    return {
        name: np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape), np.float32)
        for name, shape in shapes.items()
    }


def folder_of(name: str, tmp_path: Path, config: dict[str, Any] | None = None, **change: Any) -> Path:
    """The recorded checkpoint, with some tensors changed (None: absent)."""
    case = RECORDED[name]
    tensors: Arrays = {**weights(case["shapes"]), **change.pop("tensors", {})}
    tensors = {key: value for key, value in tensors.items() if value is not None}
    return save(tmp_path / "model", case["config"] | (config or {}), tensors, tokenizer=LETTERS, **change)


def converted(folder: Path, outtype: str = "f32") -> tuple[dict[str, Any], Arrays]:
    """The metadata, and the tensors (of F32) or bytes."""
    convert(folder, folder.parent / "out.gguf", outtype)
    with GGUFFile.open(folder.parent / "out.gguf") as file:
        data = {}
        for name, info in file.tensors.items():
            raw = np.array(file.data(name))
            data[name] = raw.view(np.float32).reshape(info.shape) if info.format.name == "F32" else raw
        return dict(file.metadata), data
