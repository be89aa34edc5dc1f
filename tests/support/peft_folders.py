"""Folders of adapters as PEFT saves them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

__all__ = ["pair", "peft_folder"]

F32 = NDArray[np.float32]


def pair(name: str, rows: int, cols: int, rank: int) -> tuple[F32, F32]:
    """A (rank, cols) and B (rows, rank), seeded with a weight's name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal((rank, cols), np.float32), rng.standard_normal((rows, rank), np.float32)


def peft_folder(folder: Path, pairs: Mapping[str, tuple[F32, F32]], **config: Any) -> Path:
    """A folder with factors of weights by the names of their modules; ``tensors`` are further ones."""
    folder.mkdir(exist_ok=True)
    tensors = dict(config.pop("tensors", {}))
    for module, (a, b) in pairs.items():
        if module.endswith("embed_tokens"):
            names = [f"lora_embedding_{which}" for which in "AB"]
        else:
            names = [f"lora_{which}.weight" for which in "AB"]
        tensors |= {f"base_model.model.{module}.{name}": x for name, x in zip(names, (a, b), strict=True)}
    save_file(tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "lora_alpha": 8, "r": 4, "use_rslora": False, **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder
