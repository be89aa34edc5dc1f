"""Command R (``command-r``) and Command R7B (``cohere2``)."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, MLP, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import every, expect, standard
from llamaq.convert.section import Section

BLOCK = {
    **{old: new for old, new in ATTENTION.items() if old != "post_attention_layernorm"},
    **MLP,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}


def _cohere(config: Section) -> dict[str, Any]:
    keys = standard(config, eps=("attention.layer_norm_epsilon", "layer_norm_eps"))
    # Command R's configuration says fewer positions than the model was trained with.
    context = config.integer("model_max_length", keys["context_length"])
    scale = config.number("logit_scale", 0.0625)
    return keys | {"context_length": context, "logit_scale": scale, "rope.scaling.type": "none"}


def _cohere2(config: Section) -> dict[str, Any]:
    keys = _cohere(config)
    windowed = every(4, keys["block_count"], last=False)
    expect(config, "layer_types", ["sliding_attention" if window else "full_attention" for window in windowed])
    return keys | {"attention.sliding_window": config.integer("sliding_window", 4096)}


FAMILIES = (
    Family("command-r", ("CohereForCausalLM",), _cohere, BLOCK, OUTER, tied=True),
    Family("cohere2", ("Cohere2ForCausalLM",), _cohere2, BLOCK, OUTER, tied=True),
)
