"""Gemma 4 as Ollama's converter wrote it: tensors as projector files have them, bounds perhaps in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.vision.merged.layout import Layout, Parts, floats, numbers

__all__ = ["GEMMA4"]

_BOUNDS = "v.clamp_data"
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down")
_ENDS = ("input_min", "input_max", "output_min", "output_max")


def _parts(file: GGUFFile, keys: Mapping[str, Any]) -> Parts:
    """Bounds of each layer's matrices and of the last one, four numbers each; those that are all zero are none."""
    if _BOUNDS not in file.tensors:
        return {}
    layers, found = keys.get("vision.block_count"), numbers(file, _BOUNDS).reshape(-1)
    if not isinstance(layers, int) or found.size != (layers * len(_MATRICES) + 1) * len(_ENDS):
        raise ModelError(
            f"tensor {_BOUNDS!r}: expected four numbers for each matrix of {layers!r} layers, got {found.size}"
        )
    names = [*(f"v.blk.{i}.{name}" for i in range(layers) for name in _MATRICES), "mm.input_projection"]
    return {
        f"{name}.{end}": floats(number.reshape(1))
        for name, bounds in zip(names, found.reshape(-1, len(_ENDS)), strict=True) if bounds.any()
        for end, number in zip(_ENDS, bounds, strict=True)
    }  # fmt: skip


GEMMA4 = Layout(
    "gemma4v",
    {"vision.image_size": 224, "vision.image_mean": [0.0] * 3, "vision.image_std": [1.0] * 3},
    parts=_parts,
)
