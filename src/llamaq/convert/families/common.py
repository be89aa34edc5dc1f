"""Names that most families share."""

from __future__ import annotations

from typing import Any

from llamaq.convert.family import PROJECTION
from llamaq.convert.rules import stack

__all__ = ["ATTENTION", "EXPERTS", "GUESSING", "MLP", "OUTER", "SELECTED"]

OUTER: dict[str, Any] = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ATTENTION: dict[str, Any] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
MLP: dict[str, Any] = {f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
EXPERTS: dict[str, Any] = {
    "mlp.gate": "ffn_gate_inp",
    **{f"mlp.experts.*.{part}_proj": stack(f"ffn_{part}_exps") for part in ("gate", "up", "down")},
}
SELECTED: dict[str, Any] = {
    **EXPERTS,
    **{f"mlp.shared_experts.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
}
"""Experts chosen with a bias, beside one that all tokens go to."""
GUESSING: dict[str, Any] = {
    PROJECTION: "nextn.eh_proj",
    **{name: f"nextn.{name}" for name in ("enorm", "hnorm", "embed_tokens")},
    "shared_head.norm": "nextn.shared_head_norm",
    "shared_head.head": "nextn.shared_head_head",
}
"""What a numbered block that predicts further tokens has beside a layer's names."""
