"""What LLaVA 1.5 and 1.6 see images with: CLIP or SigLIP, without what lies behind the layers whose states are read."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.seeing import clip_names, projector_keys
from llamaq.convert.images import Images
from llamaq.convert.keys import expect
from llamaq.convert.rules import Rule, Source, same
from llamaq.convert.section import Section, text_config
from llamaq.convert.views import NewTensor

__all__ = ["LLAVA", "LLAVA_NEXT", "OTHERS", "TEXT", "is_llava", "llava_text"]

TEXT = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}  # fmt: skip
"""Sizes that published configurations leave out."""
OTHERS = ("granite", "qwen2")
"""Kinds of texts that are not Llama's."""
_LAYERS = "vision.block_count"
_CLIP, _SIGLIP = "clip_vision_model", "siglip_vision_model"
_USUAL = {
    _CLIP: {
        "embedding_length": 1024, "feed_forward_length": 4096, "block_count": 24, "attention.head_count": 16,
        "image_size": 336, "patch_size": 14,
    },
    _SIGLIP: {
        "embedding_length": 768, "feed_forward_length": 3072, "block_count": 12, "attention.head_count": 12,
        "image_size": 224, "patch_size": 16,
    },
}  # fmt: skip
_CANVASES = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def _read(name: str) -> Rule:
    """A tensor of a layer, unless it lies behind those that are read."""

    def rule(source: Source) -> list[NewTensor]:
        return same(name)(source) if source.layer < source.keys[_LAYERS] else []

    return rule


IMAGES: dict[str, Any] = {
    **{old: _read(new) if new and "*" in new else new for old, new in clip_names("vision_tower").items()},
    "vision_tower.embeddings.class_embedding": "v.class_embd",
    "vision_tower.pre_layrnorm": "v.pre_ln",
    "vision_tower.post_layernorm": None,
    "vision_tower.embeddings.position_ids": None,
    "multi_modal_projector.linear_1": "mm.0",
    "multi_modal_projector.linear_2": "mm.2",
}


def is_llava(config: Section) -> bool:
    """Whether it is LLaVA; Pixtral is of the same class."""
    return config.section("vision_config").text("model_type", _CLIP) in _USUAL


def llava_text(config: Section) -> str:
    """The kind of the model for text."""
    return text_config(config).text("model_type", "llama")


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "model_type", _CLIP, _SIGLIP)
    kind = vision.text("model_type", _CLIP)
    siglip = kind == _SIGLIP
    expect(vision, "hidden_act", "gelu_pytorch_tanh" if siglip else "quick_gelu")
    expect(config, "projector_hidden_act", "gelu")
    strategy = "full" if siglip else "default"  # SigLIP has no row to leave out
    if config.text("vision_feature_select_strategy", "default") != strategy:
        raise config.error("vision_feature_select_strategy", repr(strategy))
    expect(config, "multimodal_projector_bias", True)
    text = text_config(config)
    whole = config.extended({"text_config": {**TEXT, **text.values}})
    eps = vision.number("layer_norm_eps", 1e-6 if siglip else 1e-5)
    keys = projector_keys(whole, processor, "mlp", eps=eps, usual=_USUAL[kind])
    layers = keys[_LAYERS]
    # Of 24 layers -2 is the state before the last one, 23.
    read = [i if i >= 0 else layers + 1 + i for i in config.integers("vision_feature_layer") or [-2]]
    if not all(0 < i <= layers for i in read) or len({*read}) < len(read):
        raise config.error("vision_feature_layer", f"different ones of {layers} layers")
    pads, crops = processor.flag("do_pad"), processor.flag("do_center_crop", not siglip)
    return keys | {
        _LAYERS: max(read), "vision.feature_layer": read, "has_llava_projector": True, "use_gelu": siglip,
        "vision.image_crop": crops and not pads, "vision.image_stretch": not crops and not pads,
    }  # fmt: skip


def _next_vision(config: Section, processor: Section) -> dict[str, Any]:
    keys = _vision(config, processor)
    for name in ("crop", "stretch"):
        del keys[f"vision.image_{name}"]
    tile = keys["vision.image_size"]
    for section, name in (("crop_size", "height"), ("size", "height"), ("size", "shortest_edge")):
        expect(processor.section(section), name, tile)
    canvases: list[Any] = config.get("image_grid_pinpoints", list) or _CANVASES
    sides = [side for canvas in canvases if isinstance(canvas, list) and len(canvas) == 2 for side in canvas]
    if len(sides) < 2 * len(canvases) or not all(type(side) is int and side > 0 for side in sides):
        raise config.error("image_grid_pinpoints", "a list of heights and widths")
    expect(processor, "image_grid_pinpoints", canvases)
    return keys | {"vision.image_grid_pinpoints": sides, "vision.mm_patch_merge_type": "spatial_unpad"}


LLAVA = Images(_vision, IMAGES)
LLAVA_NEXT = Images(_next_vision, {**IMAGES, "image_newline": "model.image_newline"})
