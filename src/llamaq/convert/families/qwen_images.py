"""What Qwen 2.5-VL, 3-VL and 3.5 see images with."""

from __future__ import annotations

from math import isqrt
from typing import Any

from llamaq.convert.families.seeing import projector_keys
from llamaq.convert.image_rules import frames, merger_of, parts
from llamaq.convert.images import Images
from llamaq.convert.keys import expect
from llamaq.convert.section import Section

_NAMES = {"attention.head_count": "num_heads", "block_count": "depth"}
_BLOCK = {"norm1": "ln1", "norm2": "ln2", "attn.proj": "attn_out"}
_DEEP = "vision.is_deepstack_layers"


def _blocks(names: dict[str, Any]) -> dict[str, Any]:
    return {f"visual.blocks.*.{old}": f"v.blk.*.{new}" for old, new in names.items()}


_QWEN25VL: dict[str, Any] = {
    "visual.patch_embed.proj": frames("v.patch_embd"),
    **_blocks(_BLOCK | {f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}),
    "visual.blocks.*.attn.qkv": parts(*(f"v.blk.*.attn_{part}" for part in "qkv")),
    "visual.merger.ln_q": "v.post_ln",
    "visual.merger.mlp.*": "mm.*",
}
_QWEN3VL: dict[str, Any] = {
    "visual.patch_embed.proj": frames("v.patch_embd"),
    "visual.pos_embed": "v.position_embd",
    **_blocks(_BLOCK | {"attn.qkv": "attn_qkv", "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down"}),
    "visual.merger.norm": "v.post_ln",
    "visual.merger.linear_fc1": "mm.0",
    "visual.merger.linear_fc2": "mm.2",
    **{
        f"visual.deepstack_merger_list.*.{old}": merger_of(f"v.deepstack.*.{new}", _DEEP)
        for old, new in (("norm", "norm"), ("linear_fc1", "fc1"), ("linear_fc2", "fc2"))
    },
}


def _any_shape(config: Section, processor: Section, kind: str, size: int) -> dict[str, Any]:
    """Keys of those that read images of any shape. Readers need a size, though."""
    vision = config.section("vision_config")
    expect(vision, "temporal_patch_size", 2)
    expect(vision, "in_channels", 3)
    expect(vision, "in_chans", 3)
    sized = config.extended({"vision_config": {**vision.values, "image_size": size}})
    keys = projector_keys(sized, processor, kind, eps=1e-6, names=_NAMES)
    limits = processor.section("size")
    for key, name, edge in (("min", "min_pixels", "shortest_edge"), ("max", "max_pixels", "longest_edge")):
        if name in processor or edge in limits:
            keys[f"vision.image_{key}_pixels"] = (processor if name in processor else limits).integer(
                name if name in processor else edge
            )
    return keys | {"vision.spatial_merge_size": vision.integer("spatial_merge_size", 2)}


def _qwen25vl(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "silu")
    keys = _any_shape(config, processor, "qwen2.5vl_merger", 560)
    layers, whole = keys["vision.block_count"], vision.integers("fullatt_block_indexes") or [7, 15, 23, 31]
    period = whole[0] + 1
    if period < 1 or whole != [i for i in range(layers) if (i + 1) % period == 0]:
        raise vision.error("fullatt_block_indexes", f"the last of every so many of the {layers} layers")
    return keys | {
        "use_silu": True, "vision.n_wa_pattern": period, "vision.window_size": vision.integer("window_size", 112),
    }  # fmt: skip


def _qwen3vl(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "gelu_pytorch_tanh")
    places = vision.integer("num_position_embeddings", 2304)
    keys = _any_shape(config, processor, "qwen3vl_merger", isqrt(places) * vision.integer("patch_size", 16))
    layers, deep = keys["vision.block_count"], vision.integers("deepstack_visual_indexes")
    if sorted({*deep}) != deep or any(not 0 <= i < layers for i in deep):
        raise vision.error("deepstack_visual_indexes", f"numbers of the {layers} layers, one after the other")
    return keys | {"use_gelu": True, _DEEP: [i in deep for i in range(layers)]}


QWEN25VL = Images(_qwen25vl, _QWEN25VL)
QWEN3VL = Images(_qwen3vl, _QWEN3VL)
