"""Gemma 3 as Ollama's converter wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.vision.merged.layout import HALVES, Layout

__all__ = ["GEMMA3"]

_TOKENS = "mm.tokens_per_image"


def _merged(file: GGUFFile, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Patches of a side that become one row."""
    tokens: Any = file.metadata.get(f"gemma3.{_TOKENS}", 256)
    sides: list[Any] = [keys.get(f"vision.{name}") for name in ("image_size", "patch_size")]
    if not all(isinstance(n, int) and n > 0 for n in (tokens, *sides)):
        raise ModelError(f"gemma3.{_TOKENS} is {tokens!r} for pictures and patches of {sides} pixels; "
                         "expected positive numbers")  # fmt: skip
    return {"vision.projector.scale_factor": sides[0] // sides[1] // isqrt(tokens)}


_BLOCK = {"layer_norm1": "ln1", "layer_norm2": "ln2", "attn_output": "attn_out", "mlp.fc1": "ffn_up",
          "mlp.fc2": "ffn_down"}  # fmt: skip
GEMMA3 = Layout(
    "gemma3",
    {"use_gelu": True, **HALVES},
    {
        "v.patch_embedding": "v.patch_embd",
        "v.position_embedding": "v.position_embd",
        "v.post_layernorm": "v.post_ln",
        "mm.mm_input_projection": "mm.input_projection",
        "mm.mm_soft_emb_norm": "mm.soft_emb_norm",
        **{f"v.blk.*.{old}": f"v.blk.*.{new}" for old, new in _BLOCK.items()},
    },
    follow=_merged,
)
