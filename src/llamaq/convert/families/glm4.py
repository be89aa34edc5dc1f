"""GLM 4 (those of 2025) and GLM 4.5 to 4.7, whose RoPE turns half of a head."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, GUESSING, MLP, OUTER, SELECTED
from llamaq.convert.family import Family
from llamaq.convert.keys import experts, standard
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MIXED = {
    **ATTENTION,
    **MLP,
    **SELECTED,
    **GUESSING,
    **{f"self_attn.{part}_norm": f"attn_{part}_norm" for part in "qk"},
    "post_attention_layernorm": "post_attention_norm",
}


def _glm4(config: Section) -> dict[str, Any]:
    return standard(config, partial=0.5)


def _glm4moe(config: Section) -> dict[str, Any]:
    return standard(config, partial=0.5) | {
        "leading_dense_block_count": config.integer("first_k_dense_replace", 1, low=0),
        "expert_shared_count": config.integer("n_shared_experts", 1),
        "expert_group_count": config.integer("n_group", 1),
        "expert_group_used_count": config.integer("topk_group", 1),
        "expert_gating_func": 2,  # sigmoid
        "expert_weights_norm": config.flag("norm_topk_prob", True),
        "expert_weights_scale": config.number("routed_scaling_factor", 1.0),
        **experts(config, "n_routed_experts", length="moe_intermediate_size"),
    }


FAMILIES = (
    Family("glm4", ("Glm4ForCausalLM",), _glm4, BLOCK, OUTER),
    Family("glm4moe", ("Glm4MoeForCausalLM",), _glm4moe, MIXED, OUTER, predicts=True),
)
