"""gpt-oss: gate and up alternate as columns of the experts, or as rows where they are MXFP4 already."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import every, expect, experts, standard
from llamaq.convert.mxfp4 import blocks_of
from llamaq.convert.rules import gate_and_up, transposed
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    "post_attention_layernorm": "post_attention_norm",
    "self_attn.sinks": "attn_sinks.weight",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": gate_and_up(
        "ffn_gate_exps.weight", "ffn_up_exps.weight", sideways=True, alternating=True
    ),
    "mlp.experts.gate_up_proj_bias": gate_and_up(
        "ffn_gate_exps.bias", "ffn_up_exps.bias", sideways=True, alternating=True
    ),
    "mlp.experts.gate_up_proj_blocks": blocks_of("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "mlp.experts.gate_up_proj_scales": None,
    "mlp.experts.down_proj_blocks": blocks_of("ffn_down_exps.weight"),
    "mlp.experts.down_proj_scales": None,
    "mlp.experts.down_proj": transposed("ffn_down_exps.weight"),
    "mlp.experts.down_proj_bias": "ffn_down_exps.bias",
}


def _gpt_oss(config: Section) -> dict[str, Any]:
    keys = standard(config)
    windowed = every(2, keys["block_count"], last=False)
    expect(config, "layer_types", ["sliding_attention" if window else "full_attention" for window in windowed])
    return {
        **keys,
        **experts(config, "num_local_experts", length="intermediate_size"),
        "attention.sliding_window": config.integer("sliding_window", 128),
    }


FAMILIES = (Family("gpt-oss", ("GptOssForCausalLM",), _gpt_oss, BLOCK, OUTER),)
