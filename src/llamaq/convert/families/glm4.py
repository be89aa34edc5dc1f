"""GLM 4 (those of 2025), whose RoPE turns half of a head."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import standard
from llamaq.convert.section import Section

BLOCK = {
    **ATTENTION,
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _glm4(config: Section) -> dict[str, Any]:
    return standard(config, partial=0.5)


FAMILIES = (Family("glm4", ("Glm4ForCausalLM",), _glm4, BLOCK, OUTER),)
