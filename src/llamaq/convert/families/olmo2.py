"""OLMo 2 and 3, whose norms come after attention and feed-forward."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, MLP, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import every, standard, windows
from llamaq.convert.section import Section

BLOCK = {
    **{old: new for old, new in ATTENTION.items() if old != "input_layernorm"},
    **MLP,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def _olmo(config: Section) -> dict[str, Any]:
    keys = standard(config)
    if "sliding_window" not in config:
        return keys
    layers = keys["block_count"]
    local = config.section("rope_parameters").section("sliding_attention")
    return keys | {
        "rope.freq_base_swa": local.number("rope_theta", keys["rope.freq_base"]),
        "attention.sliding_window": config.integer("sliding_window"),
        "attention.sliding_window_pattern": windows(config, layers) or every(4, layers, last=False),
    }


FAMILIES = (Family("olmo2", ("Olmo2ForCausalLM", "Olmo3ForCausalLM"), _olmo, BLOCK, OUTER),)
