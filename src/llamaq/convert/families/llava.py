"""What LLaVA 1.5 sees images with: CLIP, without what lies behind the layer whose states are read."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.seeing import clip_names, projector_keys
from llamaq.convert.images import Images
from llamaq.convert.keys import expect
from llamaq.convert.rules import Rule, Source, same
from llamaq.convert.section import Section, text_config
from llamaq.convert.views import NewTensor

__all__ = ["LLAVA", "TEXT", "has_clip"]

TEXT = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}  # fmt: skip
"""Sizes that published configurations leave out."""
_LAYERS = "vision.block_count"
_USUAL = {
    "embedding_length": 1024, "feed_forward_length": 4096, "block_count": 24, "attention.head_count": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip


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


def has_clip(config: Section) -> bool:
    """Whether it is LLaVA; Pixtral is of the same class."""
    return config.section("vision_config").text("model_type") == "clip_vision_model"


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "quick_gelu")
    expect(config, "projector_hidden_act", "gelu")
    expect(config, "vision_feature_select_strategy", "default")
    expect(config, "multimodal_projector_bias", True)
    text = text_config(config)
    whole = config.extended({"text_config": {**TEXT, **text.values}})
    keys = projector_keys(whole, processor, "mlp", eps=vision.number("layer_norm_eps", 1e-5), usual=_USUAL)
    layers, taken = keys[_LAYERS], config.integers("vision_feature_layer") or [-2]
    # Of 24 layers -2 is the state before the last one, 23.
    read = taken[0] if taken[0] > 0 else layers + 1 + taken[0]
    if len(taken) > 1 or not 0 < read < layers:
        raise config.error("vision_feature_layer", f"one of {layers} layers, not the last")
    keys[_LAYERS] = read
    return keys | {
        "has_llava_projector": True, "use_gelu": False, "vision.image_crop": not processor.flag("do_pad"),
    }  # fmt: skip


LLAVA = Images(_vision, IMAGES)
