"""Qwen 2 and 3, dense and with experts, and embedders made of them."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, EXPERTS, MLP, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import expect, experts, left_out_window, standard
from llamaq.convert.ranking import RANK
from llamaq.convert.section import Section

SHARED = {
    **{f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def _dense(config: Section) -> dict[str, Any]:
    keys = standard(config)
    if config.flag("use_sliding_window"):
        left_out_window(config, keys["context_length"])
    return keys


def _ranking(config: Section) -> dict[str, Any]:
    """Rerankers whose head is one row, what yes has more than no."""
    return _dense(config) | {"pooling_type": RANK}


def _mixture(config: Section, *, norm: bool) -> dict[str, Any]:
    expect(config, "norm_topk_prob", norm)
    expect(config, "decoder_sparse_step", 1)
    expect(config, "mlp_only_layers", [])
    lengths = {"length": "moe_intermediate_size", "shared_length": "shared_expert_intermediate_size"}
    return _dense(config) | experts(config, "num_experts", **lengths)


FAMILIES = (
    Family("qwen2", ("Qwen2ForCausalLM", "Qwen2Model"), _dense, ATTENTION | MLP, OUTER),
    Family(
        "qwen2moe",
        ("Qwen2MoeForCausalLM",),
        lambda config: _mixture(config, norm=False),
        ATTENTION | EXPERTS | SHARED,
        OUTER,
    ),
    Family("qwen3", ("Qwen3ForCausalLM", "Qwen3Model"), _dense, ATTENTION | NORMS | MLP, OUTER),
    Family(
        "qwen3",
        ("Qwen3ForSequenceClassification",),
        _ranking,
        ATTENTION | NORMS | MLP,
        {**OUTER, "score": "cls.output", "lm_head": None},
    ),
    Family(
        "qwen3moe",
        ("Qwen3MoeForCausalLM",),
        lambda config: _mixture(config, norm=True),
        ATTENTION | NORMS | EXPERTS,
        OUTER,
    ),
)
