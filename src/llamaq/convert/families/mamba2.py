"""Mamba-2 alone."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.mamba import check_mixer, mixer
from llamaq.convert.family import Family
from llamaq.convert.keys import expect
from llamaq.convert.section import Section

BLOCK = {"norm": "attn_norm", **mixer("mixer.")}
OUTER: dict[str, Any] = {"model.embeddings": "token_embd", "model.norm_f": "output_norm", "lm_head": "output"}


def _mamba2(config: Section) -> dict[str, Any]:
    check_mixer(config, "")
    for key, value in (("use_bias", False), ("hidden_act", "silu"), ("rms_norm", True)):
        expect(config, key, value)
    heads, width = config.integer("num_heads", 128), config.integer("hidden_size", 4096)
    inner = config.integer("expand", 2) * width
    expect(config, "head_dim", inner / heads)
    return {
        "context_length": 1 << 20,  # no position is told apart
        "embedding_length": width,
        "block_count": config.integer("num_hidden_layers", 64),
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "ssm.conv_kernel": config.integer("conv_kernel", 4),
        "ssm.state_size": config.integer("state_size", 128),
        "ssm.group_count": config.integer("n_groups", 8),
        "ssm.inner_size": inner,
        "ssm.time_step_rank": heads,
        "vocab_size": config.integer("vocab_size", 32768),
    }


FAMILIES = (Family("mamba2", ("Mamba2ForCausalLM",), _mamba2, BLOCK, OUTER),)
