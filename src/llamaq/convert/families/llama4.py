"""Llama 4 (Scout, Maverick, Guard), text alone."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.family import Family
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


FAMILIES = (Family("llama4", ("Llama4ForCausalLM", "Llama4ForConditionalGeneration"), _llama4, BLOCK, OUTER),)
