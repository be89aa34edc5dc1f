"""Granite 3 and 4, dense and with experts, and Granite 4's hybrids with Mamba-2 layers."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import OUTER
from llamaq.convert.families.llama import BLOCK
from llamaq.convert.families.llava import LLAVA, LLAVA_NEXT, llava_text
from llamaq.convert.families.mamba import mixer, sizes
from llamaq.convert.family import Family
from llamaq.convert.keys import expect, experts, standard
from llamaq.convert.rules import Rule, Source, gate_and_up, same
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor

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


def _second_half(dense: Rule, shared: Rule) -> Rule:
    """The expert of all tokens, which is all there is where there are no others."""

    def rule(source: Source) -> list[NewTensor]:
        return (shared if source.keys["expert_count"] else dense)(source)

    return rule


HYBRID = {
    **BLOCK,
    **MIXTURE,
    "shared_mlp.input_linear": _second_half(
        gate_and_up("ffn_gate", "ffn_up"), gate_and_up("ffn_gate_shexp", "ffn_up_shexp")
    ),
    "shared_mlp.output_linear": _second_half(same("ffn_down"), same("ffn_down_shexp")),
    **mixer("mamba."),
}
_ATTENTION = ("attention", "full_attention")


def _attends(config: Section) -> list[bool]:
    """Which layers have attention."""
    layers, kinds = config.integer("num_hidden_layers"), config.texts("layer_types")
    if len(kinds) != layers:
        raise config.error("layer_types", f"{layers}, one for each layer")
    return [kind in _ATTENTION for kind in kinds]


def _hybrid(config: Section) -> dict[str, Any]:
    attends = _attends(config)
    keys = _granite(config) | sizes(config) | {
        "expert_count": config.integer("num_local_experts", 0, low=0),
        "expert_used_count": config.integer("num_experts_per_tok", 0, low=0),
        "expert_shared_feed_forward_length": config.integer("shared_intermediate_size"),
        "rope.scaling.finetuned": all(attends),
    }  # fmt: skip
    expect(config, "position_embedding_type", "rope" if all(attends) else "nope")
    kv_heads = keys["attention.head_count_kv"]
    keys["attention.head_count_kv"] = [kv_heads if attention else 0 for attention in attends]
    return keys if all(attends) else keys | {"context_length": 1 << 20}  # no position is told apart


_HYBRIDS = ("GraniteMoeHybridForCausalLM",)


def _recurs(config: Section) -> bool:
    return not all(_attends(config))


def _has_experts(config: Section) -> bool:
    return config.integer("num_experts_per_tok", 0, low=0) > 0


def _speaks(config: Section) -> bool:
    """Whether it is the text of a model that sees."""
    return llava_text(config) == "granite"


FAMILIES = (
    Family("granite", ("GraniteForCausalLM",), _granite, BLOCK, OUTER),
    Family("granite", ("LlavaForConditionalGeneration",), _granite, BLOCK, OUTER, fits=_speaks, images=LLAVA),
    Family("granite", ("LlavaNextForConditionalGeneration",), _granite, BLOCK, OUTER, fits=_speaks, images=LLAVA_NEXT),
    Family(
        "granitemoe",
        ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
        _mixture,
        BLOCK | MIXTURE,
        OUTER,
    ),
    Family("granitehybrid", _HYBRIDS, _hybrid, HYBRID, OUTER, fits=_recurs),
    Family("granitemoe", _HYBRIDS, _hybrid, HYBRID, OUTER, fits=_has_experts),
    Family("granite", _HYBRIDS, _hybrid, HYBRID, OUTER),
)
