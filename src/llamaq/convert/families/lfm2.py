"""LFM 2, dense and with experts: short convolutions in the place of most layers' attention."""

from __future__ import annotations

from typing import Any

from llamaq.convert.family import Family
from llamaq.convert.keys import expect, experts, standard
from llamaq.convert.rules import gate_and_up, squeezed, stack
from llamaq.convert.section import Section

_PARTS = {"w1": "gate", "w2": "down", "w3": "up"}
BLOCK: dict[str, Any] = {
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    **{f"self_attn.{part}_layernorm": f"attn_{part}_norm" for part in "qk"},
    "self_attn.out_proj": "attn_output",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "conv.conv": squeezed("shortconv.conv"),
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    **{f"feed_forward.{old}": f"ffn_{new}" for old, new in _PARTS.items()},
}
MIXTURE = BLOCK | {
    "feed_forward.gate": "ffn_gate_inp",
    "feed_forward.expert_bias": "exp_probs_b.bias",
    "feed_forward.experts.gate_up_proj": gate_and_up("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "feed_forward.experts.down_proj": "ffn_down_exps.weight",
    **{f"feed_forward.experts.*.{old}": stack(f"ffn_{new}_exps") for old, new in _PARTS.items()},
}
OUTER = {"model.embed_tokens": "token_embd", "model.embedding_norm": "token_embd_norm", "lm_head": "output"}


def _lfm2(config: Section) -> dict[str, Any]:
    length = config.integer("block_ff_dim", config.integer("intermediate_size"))
    if config.flag("block_auto_adjust_ff_dim"):
        multiple = config.integer("block_multiple_of", 256)
        length = int(config.number("block_ffn_dim_multiplier", 1.0) * (2 * length // 3))
        length = -(-length // multiple) * multiple
    return _sizes(config, length)


def _sizes(config: Section, length: int) -> dict[str, Any]:
    eps = ("attention.layer_norm_rms_epsilon", "norm_eps")
    keys = standard(Section({**config.values, "intermediate_size": length}, "config.json"), eps=eps)
    kinds = config.texts("layer_types")
    attends = [kind == "full_attention" for kind in kinds] or [
        i in config.values.get("full_attn_idxs", ()) for i in range(keys["block_count"])
    ]
    heads = keys["attention.head_count_kv"]
    expect(config, "conv_bias", False)
    return keys | {
        "attention.head_count_kv": [heads if attention else 0 for attention in attends],
        "shortconv.l_cache": config.integer("conv_L_cache", 3),
    }


def _mixture(config: Section) -> dict[str, Any]:
    expect(config, "norm_topk_prob", True)
    return {
        **_sizes(config, config.integer("intermediate_size")),
        **experts(config, "num_experts", length="moe_intermediate_size"),
        "leading_dense_block_count": config.integer("num_dense_layers", 2, low=0),
        "expert_gating_func": 2,
        "expert_weights_scale": config.number("routed_scaling_factor", 1.0),
    }


FAMILIES = (
    Family("lfm2", ("Lfm2ForCausalLM",), _lfm2, BLOCK, OUTER, tied=True),
    Family("lfm2moe", ("Lfm2MoeForCausalLM",), _mixture, MIXTURE, OUTER, tied=True),
)
