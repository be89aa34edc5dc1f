"""Tiny checkpoints of Hugging Face's kind with weights from a seed, converted here: models whose tensors have their
names and their order from the converter. ``tests/data/tiny`` has the logits that transformers gave for the same folders
(``tests/models/test_tiny_transformers.py`` computes them again)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hf_llama import LETTERS
from llamaq.convert import convert
from shared_files import ROOT

__all__ = ["CONVERTED", "checkpoint", "converted"]

CONVERTED: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests" / "data" / "tiny" / "converted.json").read_text(encoding="utf-8")
)
"""By name: config.json, the shapes of the tensors as transformers saves them, special tokens."""


def _weights(name: str, shape: list[int]) -> NDArray[np.float32]:
    """Matrices keep logits at a few units, so that a fault of a formula moves them far."""
    x = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)
    if "embed_tokens" in name:
        return x * np.float32(0.125)
    if len(shape) > 1:
        return x * np.float32(0.8 * shape[-1] ** -0.5)
    return x * np.float32(0.2) + np.float32(0.0 if name.endswith(("bias", "A_log")) else 1.0)


def checkpoint(name: str, folder: Path) -> Path:
    """Makes the folder of a model."""
    folder.mkdir()
    entry = CONVERTED[name]
    (folder / "config.json").write_text(json.dumps(entry["config"]), encoding="utf-8")
    added = [{"id": id, "content": text, "special": True} for text, id in entry.get("special", {}).items()]
    (folder / "tokenizer.json").write_text(json.dumps({**LETTERS, "added_tokens": added}), encoding="utf-8")
    save_file({key: _weights(key, shape) for key, shape in entry["shapes"].items()}, folder / "model.safetensors")
    return folder


def converted(name: str, folder: Path) -> Path:
    """Makes the file of a model in a folder."""
    target = folder / f"{name}.gguf"
    convert(checkpoint(name, folder / name), target, "f32")
    return target
