"""Phi 3, 3.5 and 4: queries, keys and values in one tensor, gate and up in another, in GGUF too."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import standard
from llamaq.convert.rope import longrope_keys, longrope_tensors, rope_of
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _phi3(config: Section) -> dict[str, Any]:
    rope = rope_of(config)
    plain = {key: value for key, value in config.values.items() if key not in ("rope_scaling", "rope_parameters")}
    plain |= {key: rope.values[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    keys = standard(Section(plain, "config.json"), partial=1.0)
    original = config.integer(
        "original_max_position_embeddings", rope.integer("original_max_position_embeddings", keys["context_length"])
    )
    return {
        **keys,
        "rope.scaling.original_context_length": original,
        "attention.sliding_window": config.integer("sliding_window", 0, low=0),
        **longrope_keys(config, original),
    }


FAMILIES = (Family("phi3", ("Phi3ForCausalLM",), _phi3, BLOCK, OUTER, made=longrope_tensors),)
