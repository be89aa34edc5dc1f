"""Granite 3 and 4 (those without state-space layers), dense and with experts."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import OUTER
from llamaq.convert.families.llama import BLOCK
from llamaq.convert.family import Family
from llamaq.convert.keys import experts, standard
from llamaq.convert.rules import gate_and_up
from llamaq.convert.section import Section

MIXTURE = {
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.input_linear": gate_and_up("ffn_gate_exps", "ffn_up_exps"),
    "block_sparse_moe.output_linear": "ffn_down_exps",
    "shared_mlp.input_linear": gate_and_up("ffn_gate_shexp", "ffn_up_shexp"),
    "shared_mlp.output_linear": "ffn_down_shexp",
}
_SCALES = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}


def _granite(config: Section) -> dict[str, Any]:
    return standard(config) | {new: config.number(old, 1.0) for old, new in _SCALES.items()}


def _mixture(config: Section) -> dict[str, Any]:
    return _granite(config) | experts(config, "num_local_experts", shared_length="shared_intermediate_size")


FAMILIES = (
    Family("granite", ("GraniteForCausalLM",), _granite, BLOCK, OUTER),
    Family(
        "granitemoe",
        ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
        _mixture,
        BLOCK | MIXTURE,
        OUTER,
    ),
)
