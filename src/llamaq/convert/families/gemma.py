"""Gemma 1 to 3. Its norms multiply by 1 + weight, which GGUF has added."""

from __future__ import annotations

from math import isqrt
from typing import Any

from llamaq.convert.families.common import ATTENTION, MLP, OUTER
from llamaq.convert.families.seeing import clip_names, projector_keys
from llamaq.convert.family import Family
from llamaq.convert.images import Images
from llamaq.convert.keys import every, expect, standard, windows
from llamaq.convert.rules import plus_one
from llamaq.convert.section import Section

GEMMA_OUTER = OUTER | {"model.norm": plus_one("output_norm")}
BLOCK = {
    **ATTENTION,
    **MLP,
    "input_layernorm": plus_one("attn_norm"),
    "post_attention_layernorm": plus_one("ffn_norm"),
}
BLOCK_2 = BLOCK | {
    "post_attention_layernorm": plus_one("post_attention_norm"),
    "pre_feedforward_layernorm": plus_one("ffn_norm"),
    "post_feedforward_layernorm": plus_one("post_ffw_norm"),
}
BLOCK_3 = BLOCK_2 | {"self_attn.q_norm": plus_one("attn_q_norm"), "self_attn.k_norm": plus_one("attn_k_norm")}

IMAGES: dict[str, Any] = {
    **clip_names("vision_tower"),
    "multi_modal_projector.mm_input_projection_weight": "mm.input_projection.weight",
    "multi_modal_projector.mm_soft_emb_norm": plus_one("mm.soft_emb_norm"),
}

_DEFAULTS = {  # transformers has these; configurations inside of those for images leave them out
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
}


def _gemma(config: Section) -> dict[str, Any]:
    activation = "hidden_activation" if "hidden_activation" in config else "hidden_act"
    return standard(config, activation=activation, activations=("gelu_pytorch_tanh", "gelu"))


def _scaled(config: Section, largest: int) -> dict[str, Any]:
    """Keys of a model whose attention is scaled by query_pre_attn_scalar, as readers know it by its layers."""
    keys = _gemma(config)
    lone = keys["embedding_length"] // keys["attention.head_count"]
    expect(
        config,
        "query_pre_attn_scalar",
        lone if keys["block_count"] == largest else keys["attention.key_length"],
    )
    return keys


def _gemma2(config: Section) -> dict[str, Any]:
    keys = _scaled(config, 46)
    expect(config, "layer_types", _names(every(2, keys["block_count"], last=False)))
    return keys | {
        "attn_logit_softcapping": config.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": config.number("final_logit_softcapping", 30.0),
        "attention.sliding_window": config.integer("sliding_window", 4096),
    }


def _gemma3(config: Section) -> dict[str, Any]:
    config = Section({**_DEFAULTS, **{k: v for k, v in config.values.items() if v is not None}}, "config.json")
    rope = config.section("rope_parameters")
    base = config.number("rope_theta", 1e6)
    if not (rope.section("full_attention") or rope):  # older configurations have the base outside
        config = Section({**config.values, "rope_theta": base}, "config.json")
    keys = _scaled(config, 62)
    local = rope.section("sliding_attention").number("rope_theta", config.number("rope_local_base_freq", 10000.0))
    keys |= {"attention.sliding_window": config.integer("sliding_window", 4096), "rope.freq_base_swa": local}
    windowed = windows(config, keys["block_count"])
    period = config.integer("sliding_window_pattern", config.integer("_sliding_window_pattern", 6))
    windowed = windowed or every(period, keys["block_count"], last=False)
    if windowed != every(6, keys["block_count"], last=False):
        keys["attention.sliding_window_pattern"] = windowed
    if "final_logit_softcapping" in config:
        keys["final_logit_softcapping"] = config.number("final_logit_softcapping")
    return keys


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "gelu_pytorch_tanh")
    keys = projector_keys(config, processor, "gemma3", eps=vision.number("layer_norm_eps", 1e-6))
    grid, rows = keys["vision.image_size"] // keys["vision.patch_size"], config.integer("mm_tokens_per_image", 256)
    side = isqrt(rows)
    if side**2 != rows or grid % side:
        raise config.error("mm_tokens_per_image", f"the square of a divisor of {grid}, the patches along a side")
    return keys | {"use_gelu": True, "vision.projector.scale_factor": grid // side}


def _names(windowed: list[bool]) -> list[str]:
    return ["sliding_attention" if window else "full_attention" for window in windowed]


FAMILIES = (
    Family("gemma", ("GemmaForCausalLM",), _gemma, BLOCK, GEMMA_OUTER, tied=True),
    Family("gemma2", ("Gemma2ForCausalLM",), _gemma2, BLOCK_2, GEMMA_OUTER, tied=True),
    Family(
        "gemma3", ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"), _gemma3, BLOCK_3, GEMMA_OUTER, tied=True,
        images=Images(_vision, IMAGES),
    ),
)  # fmt: skip
