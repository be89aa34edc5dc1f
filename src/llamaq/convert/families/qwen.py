"""Qwen 2 and 3, dense and with experts, embedders made of them, and the text of those that see images."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, EXPERTS, MLP, OUTER
from llamaq.convert.families.llava import LLAVA, LLAVA_NEXT, llava_text
from llamaq.convert.families.qwen_images import QWEN3VL, QWEN25VL
from llamaq.convert.family import Family
from llamaq.convert.keys import expect, experts, left_out_window, standard
from llamaq.convert.rope import rope_sections
from llamaq.convert.rules import either_way, gate_and_up, same, transposed
from llamaq.convert.section import Section
from llamaq.models.keys import POOLING_RANK

SHARED = {
    **{f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
STACKS = {  # published folders have matrices that transformers has turned around since
    "mlp.experts.gate_up_proj": either_way(
        gate_and_up("ffn_gate_exps.weight", "ffn_up_exps.weight"),
        gate_and_up("ffn_gate_exps.weight", "ffn_up_exps.weight", sideways=True),
        "embedding_length",
    ),
    "mlp.experts.down_proj": either_way(
        transposed("ffn_down_exps.weight"), same("ffn_down_exps.weight"), "embedding_length"
    ),
}
NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def _dense(config: Section) -> dict[str, Any]:
    keys = standard(config)
    if config.flag("use_sliding_window"):
        left_out_window(config, keys["context_length"])
    return keys


def _seeing(config: Section) -> dict[str, Any]:
    return _dense(config) | rope_sections(config)


def _deep(config: Section) -> dict[str, Any]:
    """Qwen 3-VL: rows of pictures have a part for each of some layers."""
    deep = config.section("vision_config").integers("deepstack_visual_indexes")
    return rope_sections(config) | {"n_deepstack_layers": len(deep)}


def _ranking(config: Section) -> dict[str, Any]:
    """Rerankers whose head is one row, what yes has more than no."""
    return _dense(config) | {"pooling_type": POOLING_RANK}


def _mixture(config: Section, *, norm: bool) -> dict[str, Any]:
    expect(config, "norm_topk_prob", norm)
    expect(config, "decoder_sparse_step", 1)
    expect(config, "mlp_only_layers", [])
    lengths = {"length": "moe_intermediate_size", "shared_length": "shared_expert_intermediate_size"}
    return _dense(config) | experts(config, "num_experts", **lengths)


FAMILIES = (
    Family("qwen2", ("Qwen2ForCausalLM", "Qwen2Model"), _dense, ATTENTION | MLP, OUTER),
    Family(
        "qwen2", ("LlavaForConditionalGeneration",), _dense, ATTENTION | MLP, OUTER, images=LLAVA,
        fits=lambda config: llava_text(config) == "qwen2",
    ),
    Family(
        "qwen2", ("LlavaNextForConditionalGeneration",), _dense, ATTENTION | MLP, OUTER, images=LLAVA_NEXT,
        fits=lambda config: llava_text(config) == "qwen2",
    ),
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
    Family("qwen2vl", ("Qwen2VLForConditionalGeneration",), _seeing, ATTENTION | MLP, OUTER),
    Family(
        "qwen2vl", ("Qwen2_5_VLForConditionalGeneration",), _seeing, ATTENTION | MLP, OUTER, images=QWEN25VL,
    ),
    Family(
        "qwen3vl", ("Qwen3VLForConditionalGeneration",), lambda config: _dense(config) | _deep(config),
        ATTENTION | NORMS | MLP, OUTER, images=QWEN3VL,
    ),
    Family(
        "qwen3vlmoe", ("Qwen3VLMoeForConditionalGeneration",),
        lambda config: _mixture(config, norm=True) | _deep(config), ATTENTION | NORMS | EXPERTS | STACKS, OUTER,
        images=QWEN3VL,
    ),
)  # fmt: skip
