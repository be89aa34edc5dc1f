"""Llama 4 as Ollama's converter wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.vision.merged.layout import HALVES, Layout

__all__ = ["LLAMA4"]


_LEAST = 0.01


def _merged(file: GGUFFile, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Patches of a side that become one row."""
    ratio = keys.get("vision.pixel_shuffle_ratio", 0.5)
    if not isinstance(ratio, float) or not _LEAST <= ratio <= 1:
        raise ModelError(f"llama4.vision.pixel_shuffle_ratio is {ratio!r}; expected a number from {_LEAST} to 1")
    return {"vision.projector.scale_factor": round(1 / ratio)}


_BLOCK = {"attn_norm": "ln1", "ffn_norm": "ln2", "attn_output": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}
LLAMA4 = Layout(
    "llama4",
    {"use_gelu": True, **HALVES},
    {
        "v.patch_embedding": "v.patch_embd",
        "v.class_embedding": "v.class_embd",
        "v.positional_embedding_vlm": "v.position_embd.weight",
        "v.layernorm_pre": "v.pre_ln",
        "v.layernorm_post": "v.post_ln",
        "v.vision_adapter.mlp.fc1": "mm.model.mlp.1",
        "v.vision_adapter.mlp.fc2": "mm.model.mlp.2",
        "mm.linear_1": "mm.model.fc",
        **{f"v.blk.*.{old}": f"v.blk.*.{new}" for old, new in _BLOCK.items()},
    },
    {"vision.attention.layer_norm_epsilon": "vision.layer_norm_epsilon"},
    _merged,
)
