"""Mistral Small 3.1 and Ministral 3 as Ollama's converter wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llamaq.errors import ModelError
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.vision.merged.layout import CLIP, Bytes, Layout, Part, Parts, floats, numbers

__all__ = ["MISTRAL3"]

_BREAK = "[IMG_BREAK]"


def _parts(file: GGUFFile, keys: Mapping[str, Any]) -> Parts:
    """The row of the text's table that stands between lines of a picture, and queries and keys, whose pairs that
    converter left apart."""
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    texts = tokens.tolist() if isinstance(tokens, GGUFArray) else []
    if _BREAK not in texts:
        raise ModelError(
            f"tokenizer.ggml.tokens: expected {_BREAK!r}, which stands between lines of a picture, got none"
        )
    found = {"v.token_embd.img_break": floats(numbers(file, "token_embd.weight", texts.index(_BREAK)))}
    heads = keys.get("vision.attention.head_count")
    for name, info in file.tensors.items():
        if not name.startswith("v.blk.") or name.split(".")[-2] not in ("attn_q", "attn_k"):
            continue
        if not isinstance(heads, int) or heads < 1 or info.shape[0] % (2 * heads):
            raise ModelError(
                f"tensor {name!r}: expected rows for {heads!r} heads, an even number each, got {info.shape}"
            )
        found[name] = Part(info.format, info.shape, _turned(file, name, heads))
    return found


def _turned(file: GGUFFile, name: str, heads: int) -> Callable[[], Bytes]:
    """Pairs of a head's rows side by side."""

    def data() -> Bytes:
        rows = file.data(name).reshape(file.tensors[name].shape[0], -1)
        order = np.arange(len(rows)).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
        return np.ascontiguousarray(rows[order])

    return data


_BLOCK = {"attn_norm": "ln1", "ffn_norm": "ln2", "attn_output": "attn_out"}
MISTRAL3 = Layout(
    "pixtral",
    {"use_silu": True, "vision.attention.layer_norm_epsilon": 1e-5, **CLIP},
    {
        "v.patch_conv": "v.patch_embd",
        "v.encoder_norm": "v.pre_ln",
        "mm.norm": "mm.input_norm",
        "mm.patch_merger.merging_layer": "mm.patch_merger",
        "mm.linear_1": "mm.1",
        "mm.linear_2": "mm.2",
        **{f"v.blk.*.{old}": f"v.blk.*.{new}" for old, new in _BLOCK.items()},
    },
    {"vision.spatial_merge_size": "spatial_merge_size"},
    parts=_parts,
)
