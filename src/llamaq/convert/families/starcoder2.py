"""StarCoder 2."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, OUTER
from llamaq.convert.family import Family
from llamaq.convert.keys import left_out_window, standard
from llamaq.convert.section import Section

BLOCK = {**ATTENTION, "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def _starcoder2(config: Section) -> dict[str, Any]:
    eps = ("attention.layer_norm_epsilon", "norm_epsilon")
    keys = standard(config, activations=("gelu_pytorch_tanh",), eps=eps)
    left_out_window(config, keys["context_length"])
    return keys


FAMILIES = (Family("starcoder2", ("Starcoder2ForCausalLM",), _starcoder2, BLOCK, OUTER, tied=True),)
