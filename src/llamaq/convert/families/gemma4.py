"""Gemma 4. Its norms multiply by their weights as they are, other than those of Gemma 1 to 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llamaq.convert.families.common import ATTENTION, MLP
from llamaq.convert.families.seeing import projector_keys
from llamaq.convert.family import Family
from llamaq.convert.image_rules import flat_kernel
from llamaq.convert.images import Images
from llamaq.convert.keys import every, expect, experts, windows
from llamaq.convert.rope import Tensors
from llamaq.convert.section import Section

OUTER: dict[str, Any] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
}
BLOCK: dict[str, Any] = {
    **ATTENTION,
    **MLP,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "post_feedforward_layernorm_1": "post_ffw_norm_1",
    "post_feedforward_layernorm_2": "post_ffw_norm_2",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
    "router.proj": "ffn_gate_inp",
    "router.scale": "ffn_gate_inp.scale",
    "router.per_expert_scale": "ffn_down_exps.scale",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "experts.down_proj": "ffn_down_exps.weight",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    "layer_scalar": "layer_output_scale.weight",
}
_SEEING_BLOCK: dict[str, Any] = {
    "input_layernorm": "ln1",
    "post_attention_layernorm": "attn_post_norm",
    "pre_feedforward_layernorm": "ln2",
    "post_feedforward_layernorm": "ffn_post_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
_BOUNDED = {
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    "self_attn.o_proj": "attn_out",
    **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}
"""Matrices of the small models have bounds of what they read and make."""
_BOUNDS = ("input_min", "input_max", "output_min", "output_max")
IMAGES: dict[str, Any] = {
    "vision_tower.patch_embedder.input_proj": flat_kernel("v.patch_embd"),
    "vision_tower.patch_embedder.position_embedding_table": "v.position_embd.weight",
    "vision_tower.std_bias": "v.std_bias",
    "vision_tower.std_scale": "v.std_scale",
    **{f"vision_tower.encoder.layers.*.{old}": f"v.blk.*.{new}" for old, new in _SEEING_BLOCK.items()},
    **{f"vision_tower.encoder.layers.*.{old}.linear": f"v.blk.*.{new}" for old, new in _BOUNDED.items()},
    **{
        f"vision_tower.encoder.layers.*.{old}.{bound}": f"v.blk.*.{new}.{bound}"
        for old, new in _BOUNDED.items() for bound in _BOUNDS
    },
    "embed_vision.embedding_projection": "mm.input_projection",
}  # fmt: skip
_NEVER = 1e30  # divides a frequency so that its pair does not turn


def _gemma4(config: Section) -> dict[str, Any]:
    if config.text("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        raise config.error("hidden_activation", "'gelu_pytorch_tanh'")
    layers = config.integer("num_hidden_layers")
    windowed = windows(config, layers) or every(6, layers, last=False)
    near = config.integer("head_dim", 256)
    far = _of_full_layers(config, windowed, "global_head_dim", "head_dim", near)
    heads, kv_heads = config.integer("num_attention_heads"), config.integer("num_key_value_heads", 1)
    far_kv_heads = _of_full_layers(config, windowed, "num_global_key_value_heads", "num_key_value_heads", kv_heads)
    shared = config.integer("num_kv_shared_layers", 0, low=0)
    length = config.integer("intermediate_size")
    wide = config.flag("use_double_wide_mlp")
    lengths = [length * (2 if wide and i >= layers - shared else 1) for i in range(layers)]
    keys: dict[str, Any] = {
        "context_length": config.integer("max_position_embeddings"),
        "embedding_length": config.integer("hidden_size"),
        "block_count": layers,
        "feed_forward_length": lengths if wide else length,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads
        if kv_heads == far_kv_heads
        else [kv_heads if window else far_kv_heads for window in windowed],
        "attention.key_length": far,
        "attention.value_length": far,
        "attention.key_length_swa": near,
        "attention.value_length_swa": near,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
        "attention.sliding_window": config.integer("sliding_window", 512),
        "attention.sliding_window_pattern": windowed,
        "attention.shared_kv_layers": shared,
        "embedding_length_per_layer_input": config.integer("hidden_size_per_layer_input", 0, low=0),
        "rope.dimension_count": far,
        "rope.dimension_count_swa": near,
        "final_logit_softcapping": config.number("final_logit_softcapping", 0.0),
        **_bases(config),
    }
    if config.flag("enable_moe_block"):
        keys["expert_used_count"] = config.integer("top_k_experts")
        given = Section({**config.values, "num_experts_per_tok": keys["expert_used_count"]}, "config.json")
        keys |= experts(given, "num_experts", length="moe_intermediate_size")
    return keys


def _of_full_layers(config: Section, windowed: list[bool], name: str, inner: str, usual: int) -> int:
    """A number of the layers that see all, which configurations have under a name of its own or layer by layer."""
    layer = next((i for i, window in enumerate(windowed) if not window), 0)
    return config.integer(name, config.section("per_layer_config").section(str(layer)).integer(inner, usual))


def _bases(config: Section) -> dict[str, float]:
    rope = config.section("rope_parameters")
    return {
        "rope.freq_base": rope.section("full_attention").number("rope_theta", 1e6),
        "rope.freq_base_swa": rope.section("sliding_attention").number("rope_theta", 1e4),
    }


def _divisors(config: Section, keys: Mapping[str, Any]) -> Tensors:
    """Layers that see all turn the first part of their pairs alone."""
    part = config.section("rope_parameters").section("full_attention").number("partial_rotary_factor", 0.25)
    pairs = keys["attention.key_length"] // 2
    turned = int(part * pairs)
    return {"rope_freqs.weight": np.array([1.0] * turned + [_NEVER] * (pairs - turned), np.float32)}


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_activation", "gelu_pytorch_tanh")
    expect(vision.section("rope_parameters"), "rope_theta", 100.0, 100)
    # Readers need a size, which says nothing here. The model itself spreads colours over -1 to 1.
    sized = config.extended({"vision_config": {**vision.values, "image_size": 224}})
    keys = projector_keys(sized, processor, "gemma4v", eps=vision.number("rms_norm_eps", 1e-6), colours=False)
    heads, width = keys["vision.attention.head_count"], keys["vision.embedding_length"]
    expect(vision, "num_key_value_heads", heads)
    expect(vision, "head_dim", width // heads)
    merged = vision.integer("pooling_kernel_size", 3)
    keys["vision.projector_type"] = keys.pop("projector_type")
    rows = processor.integer("max_soft_tokens", 280)
    return keys | {
        "vision.projector.scale_factor": merged,
        "vision.image_mean": [0.0] * 3,
        "vision.image_std": [1.0] * 3,
        "vision.image_max_pixels": rows * (merged * keys["vision.patch_size"]) ** 2,
    }


FAMILIES = (
    Family(
        "gemma4",
        ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
        _gemma4, BLOCK, OUTER, made=_divisors, tied=True, images=Images(_vision, IMAGES),
    ),
)  # fmt: skip
