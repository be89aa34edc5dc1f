"""Qwen 2.5-VL, 3-VL and 3.5 as Ollama's converter wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.vision.merged.layout import CLIP, HALVES, Bytes, Layout, Part, Parts, numbers, patches_along

__all__ = ["QWEN3VL", "QWEN25VL"]

_FULL, _DEEP = "vision.fullatt_block_indexes", "vision.deepstack_visual_indexes"
_KERNEL = "v.patch_embed.weight"


def _layers(file: GGUFFile, keys: Mapping[str, Any], key: str) -> list[int]:
    """Numbers of layers, one after the other."""
    value = keys.get(key, [])
    found = value.tolist() if isinstance(value, GGUFArray) else value
    layers = keys.get("vision.block_count")
    if not isinstance(layers, int) or layers > len(file.tensors):
        raise ModelError(f"vision.block_count is {layers!r}; expected as many layers as there are tensors for")
    if not isinstance(found, list) or not all(isinstance(i, int) for i in found) or sorted({*found}) != found:
        raise ModelError(f"{key} is {found!r}; expected numbers of layers, one after the other")
    if any(not 0 <= i < layers for i in found):
        raise ModelError(f"{key} is {found!r}; expected numbers of the {layers} layers")
    return found


def _windows(file: GGUFFile, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Of so many layers the last sees the whole picture."""
    if _FULL not in keys:
        return {"vision.n_wa_pattern": 8}
    whole = _layers(file, keys, _FULL)
    period = whole[0] + 1 if whole else 0
    if whole != [i for i in range(keys["vision.block_count"]) if period and (i + 1) % period == 0]:
        raise ModelError(f"{_FULL} is {whole}; expected the last of every so many layers")
    return {"vision.n_wa_pattern": period}


def _deep(file: GGUFFile, keys: Mapping[str, Any]) -> dict[str, Any]:
    layers, patch = _layers(file, keys, _DEEP), keys.get("vision.patch_size")
    if not isinstance(patch, int):
        raise ModelError(f"vision.patch_size is {patch!r}; expected pixels of a patch's side")
    return {
        "vision.is_deepstack_layers": [i in layers for i in range(keys["vision.block_count"])],
        "vision.image_size": patches_along(file, "v.pos_embed.weight") * patch,
    }


def _kernels(file: GGUFFile, keys: Mapping[str, Any]) -> Parts:
    """The kernel for two frames, as two, and mergers of states under the numbers of their layers."""
    x = numbers(file, _KERNEL)
    if x.ndim != 4 or x.shape[1] != 2 or x.shape[0] % 3:
        raise ModelError(f"tensor {_KERNEL!r}: expected a kernel for two frames in three colours, got {x.shape}")
    shape, f32 = (x.shape[0] // 3, 3, *x.shape[2:]), format_by_name("F32")
    found = {
        f"v.patch_embd.weight{end}": Part(f32, shape, partial(_frame, file, frame, shape))
        for frame, end in enumerate(("", ".1"))
    }
    for i, layer in enumerate(_layers(file, keys, _DEEP)):
        for old, new in (("norm", "norm"), ("linear_fc1", "fc1"), ("linear_fc2", "fc2")):
            for kind in ("weight", "bias"):
                there = f"v.deepstack_merger.{i}.{old}.{kind}"
                if there in file.tensors:
                    info = file.tensors[there]
                    found[f"v.deepstack.{layer}.{new}.{kind}"] = Part(info.format, info.shape, _same(file, there))
    return found


def _same(file: GGUFFile, name: str) -> Callable[[], Bytes]:
    return lambda: file.data(name)


def _frame(file: GGUFFile, frame: int, shape: tuple[int, ...]) -> Bytes:
    rows = np.ascontiguousarray(numbers(file, _KERNEL)[:, frame].reshape(shape))
    return rows.view(np.uint8)


_BLOCK = {"norm1": "ln1", "norm2": "ln2", "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down"}
QWEN25VL = Layout(
    "qwen2.5vl_merger",
    {"use_silu": True, "vision.image_size": 560, "vision.attention.layer_norm_epsilon": 1e-6, **CLIP},
    {
        "v.merger.ln_q": "v.post_ln",
        "v.merger.mlp.*.weight": "mm.*.weight",
        "v.merger.mlp.*.bias": "mm.*.bias",
        "v.patch_embd_0.weight": "v.patch_embd.weight",
        "v.patch_embd_1.weight": "v.patch_embd.weight.1",
    },
    follow=_windows,
)
QWEN3VL = Layout(
    "qwen3vl_merger",
    {"use_gelu": True, "vision.attention.layer_norm_epsilon": 1e-6, **HALVES},
    {
        "v.patch_embed": "v.patch_embd",
        "v.pos_embed": "v.position_embd",
        "v.merger.norm": "v.post_ln",
        "v.merger.linear_fc1": "mm.0",
        "v.merger.linear_fc2": "mm.2",
        **{f"v.blk.*.{old}": f"v.blk.*.{new}" for old, new in _BLOCK.items()},
    },
    {"vision.image_min_pixels": "vision.shortest_edge", "vision.image_max_pixels": "vision.longest_edge"},
    _deep,
    _kernels,
)
