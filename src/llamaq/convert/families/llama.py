"""Llama, Mistral and Mixtral (``llama``), SmolLM 3, Ministral 3, and what sees with them: SmolVLM, LLaVA, Pixtral."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.common import ATTENTION, MLP, OUTER
from llamaq.convert.families.llava import LLAVA, LLAVA_NEXT, OTHERS, TEXT, is_llava, llava_text
from llamaq.convert.families.pixtral import PIXTRAL
from llamaq.convert.families.smolvlm import SMOLVLM
from llamaq.convert.family import Family
from llamaq.convert.keys import every, expect, experts, left_out_window, standard
from llamaq.convert.rope import rope_of
from llamaq.convert.rules import stack, turned
from llamaq.convert.section import Section

TURNED = {
    "self_attn.q_proj": turned("attn_q", "attention.head_count"),
    "self_attn.k_proj": turned("attn_k", "attention.head_count_kv"),
}
BLOCK = {**ATTENTION, **TURNED, **MLP}
MIXTRAL = {
    "block_sparse_moe.gate": "ffn_gate_inp",
    "block_sparse_moe.experts.*.w1": stack("ffn_gate_exps"),
    "block_sparse_moe.experts.*.w2": stack("ffn_down_exps"),
    "block_sparse_moe.experts.*.w3": stack("ffn_up_exps"),
}


def _llama(config: Section) -> dict[str, Any]:
    keys = standard(config)
    left_out_window(config, keys["context_length"])
    return keys | (experts(config, "num_local_experts") if "num_local_experts" in config else {})


def _smollm3(config: Section) -> dict[str, Any]:
    keys = standard(config)
    expect(config, "no_rope_layers", [int(rope) for rope in every(4, keys["block_count"], last=False)])
    left_out_window(config, keys["context_length"])
    return keys


def _mistral3(config: Section) -> dict[str, Any]:
    rope = rope_of(config)
    if config.text("model_type") != "ministral3":
        return standard(config)
    keys = standard(config, log_multiplier=rope.number("mscale_all_dim", 1.0))
    return keys | {"attention.temperature_scale": rope.number("llama_4_scaling_beta")}


def _llava(config: Section) -> dict[str, Any]:
    expect(config, "model_type", "llama", "mistral")
    return _llama(config.extended({**TEXT, **config.values}))


def _pixtral(config: Section) -> dict[str, Any]:
    expect(config, "model_type", "mistral", "llama")
    return _llama(config)


FAMILIES = (
    Family("llama", ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"), _llama, BLOCK | MIXTRAL, OUTER),
    Family(
        "llama", ("SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration"), _llama, BLOCK, OUTER,
        images=SMOLVLM,
    ),
    Family(
        "llama", ("LlavaForConditionalGeneration",), _llava, BLOCK, OUTER, images=LLAVA,
        fits=lambda config: is_llava(config) and llava_text(config) not in OTHERS,
    ),
    Family(
        "llama", ("LlavaForConditionalGeneration",), _pixtral, BLOCK, OUTER, images=PIXTRAL,
        fits=lambda config: not is_llava(config),
    ),
    Family(
        "llama", ("LlavaNextForConditionalGeneration",), _llava, BLOCK, OUTER, images=LLAVA_NEXT,
        fits=lambda config: llava_text(config) not in OTHERS,
    ),
    Family("smollm3", ("SmolLM3ForCausalLM",), _smollm3, BLOCK, OUTER),
    Family(
        "mistral3", ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"), _mistral3, BLOCK, OUTER,
        images=PIXTRAL,
    ),
)  # fmt: skip
