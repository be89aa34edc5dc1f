"""DeepSeek V2 and V3: attention with compressed keys and values, and experts in groups."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, GUESSING, MLP, OUTER, SELECTED
from llamaq.convert.family import Family
from llamaq.convert.keys import experts, standard
from llamaq.convert.rope import rope_of
from llamaq.convert.rules import key_and_value
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    **MLP,
    **SELECTED,
    **GUESSING,
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": key_and_value("attn_k_b", "attn_v_b"),
}
_GATING = {"softmax": 1, "sigmoid": 2}


def _deepseek(config: Section) -> dict[str, Any]:
    nope, rope = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    rank, multiplier = config.integer("kv_lora_rank"), rope_of(config).values.get("mscale_all_dim")
    # One head of compressed keys, which each query head widens; lengths after widening have names of their own.
    single = Section({**config.values, "num_key_value_heads": 1, "head_dim": rope}, "config.json")
    keys = standard(single) | {
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": config.integer("v_head_dim"),
        "attention.kv_lora_rank": rank,
        "leading_dense_block_count": config.integer("first_k_dense_replace", 0, low=0),
        "expert_shared_count": config.integer("n_shared_experts", 0, low=0),
        "expert_weights_scale": config.number("routed_scaling_factor", 1.0),
        **experts(config, "n_routed_experts", length="moe_intermediate_size"),
    }
    keys.pop("rope.scaling.attn_factor", None)  # attention is scaled instead, by the multiplier
    if multiplier is not None and keys.get("rope.scaling.type") == "yarn":
        keys["rope.scaling.yarn_log_multiplier"] = 0.1 * rope_of(config).number("mscale_all_dim")
    if "q_lora_rank" in config:
        keys["attention.q_lora_rank"] = config.integer("q_lora_rank")
    for old, new in (("n_group", "expert_group_count"), ("topk_group", "expert_group_used_count")):
        if old in config:
            keys[new] = config.integer(old)
    return keys | _routing(config)


def _routing(config: Section) -> dict[str, Any]:
    third = config.texts("architectures") == ["DeepseekV3ForCausalLM"]  # transformers leaves out what all of them have
    scoring = config.text("scoring_func", "sigmoid" if third else "softmax")
    if scoring not in _GATING:
        raise config.error("scoring_func", " or ".join(_GATING))
    norm = config.flag("norm_topk_prob", third)
    return {"expert_gating_func": _GATING[scoring]} | ({"expert_weights_norm": True} if norm else {})


FAMILIES = (
    Family(
        "deepseek2",
        ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
        _deepseek,
        BLOCK,
        OUTER,
        predicts=True,
    ),
)
