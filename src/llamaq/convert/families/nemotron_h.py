"""Nemotron-H and Nemotron 3: layers of Mamba-2, of attention, and of feed-forward halves without a gate. What predicts
further tokens is one block in GGUF and two layers here, with attention and with experts."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import GUESSING
from llamaq.convert.families.mamba import check_mixer, mixer
from llamaq.convert.family import Family
from llamaq.convert.keys import expect, experts, standard
from llamaq.convert.rules import stack
from llamaq.convert.section import Section

_PARTS = ("up", "down")
BLOCK: dict[str, Any] = {
    "norm": "attn_norm",
    **mixer("mixer."),
    **{f"mixer.{part}_proj": f"attn_{part}" for part in "qkv"},
    "mixer.o_proj": "attn_output",
    **{f"mixer.{part}_proj": f"ffn_{part}" for part in _PARTS},
}
MIXTURE = BLOCK | {
    "mixer.gate": "ffn_gate_inp",
    "mixer.gate.e_score_correction_bias": "exp_probs_b.bias",
    **{f"mixer.experts.*.{part}_proj": stack(f"ffn_{part}_exps") for part in _PARTS},
    **{f"mixer.experts.{part}_proj": f"ffn_{part}_exps.weight" for part in _PARTS},
    **{f"mixer.shared_experts.{part}_proj": f"ffn_{part}_shexp" for part in _PARTS},
    "mixer.fc1_latent_proj": "ffn_latent_down",
    "mixer.fc2_latent_proj": "ffn_latent_up",
}
GUESSING_MIXTURE = MIXTURE | GUESSING | {"*.norm": "post_attention_norm", "final_layernorm": "nextn.shared_head_norm"}
PREDICTING = r"^mtp\.layers\.(0\.|1\.(?!norm\.)|(?=1\.norm\.))"
OUTER: dict[str, Any] = {"model.embeddings": "token_embd", "model.norm_f": "output_norm", "lm_head": "output"}
_KINDS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NAMES = {"linear_attention": "mamba", "full_attention": "attention"}


def _layers(config: Section) -> list[str]:
    """What each layer is: "mamba", "attention", "mlp" or "moe"."""
    pattern = config.text("hybrid_override_pattern") if "hybrid_override_pattern" in config else ""
    key = "hybrid_override_pattern" if pattern else "layers_block_type"
    named = list(pattern) or config.texts(key)
    kinds = [_KINDS.get(name) or _NAMES.get(name, name) for name in named]
    if not kinds or not {*kinds} <= {*_KINDS.values()}:
        raise config.error(key, f"for each layer one of {', '.join(_KINDS.values())}")
    return kinds


def _dense(config: Section) -> dict[str, Any]:
    kinds = _layers(config)
    check_mixer(config)
    for key, value in (("use_bias", False), ("mamba_hidden_act", "silu"), ("num_hidden_layers", len(kinds))):
        expect(config, key, value)
    heads = config.integer("mamba_num_heads", 128)
    usual = {"num_hidden_layers": len(kinds), "layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5)}
    keys = standard(
        config.extended(usual), activations=("relu2",), activation="mlp_hidden_act",
        eps=("attention.layer_norm_rms_epsilon", "layer_norm_epsilon"),
    )  # fmt: skip
    return keys | {
        "context_length": 1 << 20,  # no position is told apart
        "rope.scaling.finetuned": False,
        "attention.head_count_kv": [keys["attention.head_count_kv"] * (kind == "attention") for kind in kinds],
        "feed_forward_length": [_length(config, kind) for kind in kinds],
        "ssm.conv_kernel": config.integer("conv_kernel", 4),
        "ssm.state_size": config.integer("ssm_state_size", 128),
        "ssm.group_count": config.integer("n_groups", 8),
        "ssm.inner_size": heads * config.integer("mamba_head_dim", 64),
        "ssm.time_step_rank": heads,
    }


def _length(config: Section, kind: str) -> int:
    lengths = {"mlp": "intermediate_size", "moe": "moe_intermediate_size"}
    return config.integer(lengths[kind]) if kind in lengths else 0


def _mixture(config: Section) -> dict[str, Any]:
    lengths = {"length": "moe_intermediate_size", "shared_length": "moe_shared_expert_intermediate_size"}
    keys = _dense(config) | experts(config, "n_routed_experts", **lengths) | {
        "expert_shared_count": config.integer("n_shared_experts", 1),
        "expert_weights_norm": config.flag("norm_topk_prob", True),
        "expert_weights_scale": config.number("routed_scaling_factor", 1.0),
        "expert_group_count": config.integer("n_group", 1),
        "expert_group_used_count": config.integer("topk_group", 1),
    }  # fmt: skip
    latent = config.integer("moe_latent_size", 0, low=0)
    return keys | ({"moe_latent_size": latent} if latent else {})


def _has_experts(config: Section) -> bool:
    return "E" in config.text("hybrid_override_pattern") or "moe" in config.texts("layers_block_type")


_CLASSES = ("NemotronHForCausalLM",)
FAMILIES = (
    Family(
        "nemotron_h_moe", _CLASSES, _mixture, GUESSING_MIXTURE, OUTER,
        fits=_has_experts, predicts=True, predicting=PREDICTING,
    ),
    Family("nemotron_h", _CLASSES, _dense, BLOCK, OUTER),
)  # fmt: skip
