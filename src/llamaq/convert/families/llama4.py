"""Llama 4 (Scout, Maverick, Guard)."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.families.seeing import projector_keys
from llamaq.convert.family import Family
from llamaq.convert.images import Images
from llamaq.convert.keys import every, expect, experts, standard
from llamaq.convert.rules import gate_and_up, transposed
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    **{f"feed_forward.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    "feed_forward.router": "ffn_gate_inp",
    "feed_forward.experts.gate_up_proj": gate_and_up("ffn_gate_exps.weight", "ffn_up_exps.weight", sideways=True),
    "feed_forward.experts.down_proj": transposed("ffn_down_exps.weight"),
}


def _llama4(config: Section) -> dict[str, Any]:
    keys = standard(config)
    expect(config, "no_rope_layers", [int(rope) for rope in every(4, keys["block_count"], last=False)], [])
    expect(config, "attention_chunk_size", 8192)
    expect(config, "floor_scale", 8192, 8192.0)
    expect(config, "attn_scale", 0.1)
    found = {
        **keys,
        "feed_forward_length": config.integer("intermediate_size_mlp"),
        "interleave_moe_layer_step": config.integer("interleave_moe_layer_step", 1, low=0),
        "expert_feed_forward_length": config.integer("intermediate_size"),
        **experts(config, "num_local_experts"),
    }
    expect(config, "use_qk_norm", found["expert_count"] != 128)  # readers know the model by it
    return found


_SEEING_BLOCK = {
    "input_layernorm": "ln1", "post_attention_layernorm": "ln2", "self_attn.o_proj": "attn_out", "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down", **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
}  # fmt: skip
IMAGES: dict[str, Any] = {
    "vision_model.patch_embedding.linear": "v.patch_embd",
    "vision_model.class_embedding": "v.class_embd",
    "vision_model.positional_embedding_vlm": "v.position_embd.weight",
    "vision_model.layernorm_pre": "v.pre_ln",
    "vision_model.layernorm_post": "v.post_ln",
    **{f"vision_model.model.layers.*.{old}": f"v.blk.*.{new}" for old, new in _SEEING_BLOCK.items()},
    "vision_model.vision_adapter.mlp.fc1": "mm.model.mlp.1",
    "vision_model.vision_adapter.mlp.fc2": "mm.model.mlp.2",
    "multi_modal_projector.linear_1": "mm.model.fc",
}


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "gelu")
    expect(vision, "multi_modal_projector_bias", False)
    for rope in (vision, vision.section("rope_parameters")):
        expect(rope, "rope_theta", 10000.0, 10000)
    ratio = vision.number("pixel_shuffle_ratio", 0.5)
    merged = round(1 / ratio) if ratio <= 1 else 0
    if merged * ratio != 1:
        raise vision.error("pixel_shuffle_ratio", "one divided by an integer")
    keys = projector_keys(config, processor, "llama4", eps=vision.number("norm_eps", 1e-5))
    return keys | {"use_gelu": True, "vision.projector.scale_factor": merged}


FAMILIES = (
    Family(
        "llama4", ("Llama4ForCausalLM", "Llama4ForConditionalGeneration"), _llama4, BLOCK, OUTER,
        images=Images(_vision, IMAGES),
    ),
)  # fmt: skip
