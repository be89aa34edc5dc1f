"""Qwen 3.5 and Qwen3-Next, dense and with experts: gated delta nets in three of four layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.convert.families.common import EXPERTS, MLP
from llamaq.convert.families.qwen import SHARED
from llamaq.convert.families.qwen_images import QWEN3VL
from llamaq.convert.family import Family
from llamaq.convert.keys import every, expect, experts, standard
from llamaq.convert.rope import rope_sections
from llamaq.convert.rules import Rule, Source, gate_and_up, plus_one, regrouped, same, squeezed
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor, View

Keys = Mapping[str, Any]


def _sizes(keys: Keys) -> tuple[int, int, int, int]:
    """Heads of keys and of values, and their lengths."""
    values = keys["ssm.time_step_rank"]
    return keys["ssm.group_count"], values, keys["ssm.state_size"], keys["ssm.inner_size"] // values


def _tiled(keys: Keys, length: int, start: int = 0) -> list[range]:
    """Heads of values, of ``length`` rows each, in GGUF's order: the first of every group, then the second of each."""
    groups, heads, _, _ = _sizes(keys)
    size = heads // groups
    at = [start + (group * size + i) * length for i in range(size) for group in range(groups)]
    return [range(a, a + length) for a in at]


def _value_rows(keys: Keys) -> list[range]:
    return _tiled(keys, _sizes(keys)[3])


def _mixed_rows(keys: Keys) -> list[range]:
    groups, _, key_dim, value_dim = _sizes(keys)
    start = 2 * groups * key_dim
    return [range(start), *_tiled(keys, value_dim, start)]


def _gate_rows(keys: Keys) -> list[range]:
    return _tiled(keys, 1)


def _interleaved(source: Source) -> list[NewTensor]:
    """Qwen3-Next's one matrix: for each key head the rows of its query, its key, its values, and their gates."""
    (old,), cols = source.names, range(source.shape[-1])
    groups, heads, key_dim, value_dim = _sizes(source.keys)
    values = heads // groups * value_dim
    each = 2 * key_dim + 2 * values
    if len(source.shape) != 2 or source.shape[0] != groups * each:
        raise source.error(f"{groups} times {each} rows")

    def part(begin: int, length: int) -> list[View]:
        return [View(old, range(i * each + begin, i * each + begin + length), cols) for i in range(groups)]

    mixed = [*part(0, key_dim), *part(key_dim, key_dim), *part(2 * key_dim, values)]
    gate = part(2 * key_dim + values, values)
    return [source.new("attn_qkv", *mixed, joined=True), source.new("attn_gate", *gate, joined=True)]


COMMON: dict[str, Any] = {
    **MLP,
    **EXPERTS,
    **SHARED,
    "mlp.experts.gate_up_proj": gate_and_up("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "mlp.experts.down_proj": "ffn_down_exps.weight",
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"self_attn.{part}_norm": plus_one(f"attn_{part}_norm") for part in "qk"},
    "input_layernorm": plus_one("attn_norm"),
    "post_attention_layernorm": plus_one("post_attention_norm"),
    "linear_attn.norm": "ssm_norm",
    "mtp.fc": "nextn.eh_proj",
    "mtp.pre_fc_norm_embedding": plus_one("nextn.enorm"),
    "mtp.pre_fc_norm_hidden": plus_one("nextn.hnorm"),
    "mtp.norm": plus_one("nextn.shared_head_norm"),
}


def _decay(name: str) -> Rule:
    return lambda source: [source.new(name, View.whole(source.names[0], source.shape), negative_exp=True)]


QWEN35 = COMMON | {
    "linear_attn.in_proj_qkv": regrouped("attn_qkv", _mixed_rows),
    "linear_attn.in_proj_z": regrouped("attn_gate", _value_rows),
    "linear_attn.in_proj_b": regrouped("ssm_beta", _gate_rows),
    "linear_attn.in_proj_a": regrouped("ssm_alpha", _gate_rows),
    "linear_attn.dt_bias": regrouped("ssm_dt.bias", _gate_rows),
    "linear_attn.A_log": regrouped("ssm_a", _gate_rows, negative_exp=True),
    "linear_attn.conv1d": squeezed("ssm_conv1d", _mixed_rows),
    "linear_attn.out_proj": regrouped("ssm_out", _value_rows, columns=True),
}
QWEN3_NEXT = COMMON | {
    "linear_attn.in_proj_qkvz": _interleaved,
    "linear_attn.in_proj_ba": "ssm_ba",
    "linear_attn.dt_bias": "ssm_dt.bias",
    "linear_attn.A_log": _decay("ssm_a"),
    "linear_attn.conv1d": squeezed("ssm_conv1d"),
    "linear_attn.out_proj": "ssm_out",
}
OUTER: dict[str, Any] = {
    "model.embed_tokens": "token_embd", "model.norm": plus_one("output_norm"), "lm_head": same("output"),
}  # fmt: skip


def _hybrid(config: Section) -> dict[str, Any]:
    if "intermediate_size" not in config:
        config = Section({**config.values, "intermediate_size": config.integer("moe_intermediate_size")}, "config.json")
    keys = standard(config, partial=0.25)
    layers, interval = keys["block_count"], config.integer("full_attention_interval", 4)
    kinds = config.texts("layer_types")
    recurrent = [kind == "linear_attention" for kind in kinds] or every(interval, layers, last=False)
    return {
        **keys,
        "ssm.conv_kernel": config.integer("linear_conv_kernel_dim", 4),
        "ssm.state_size": config.integer("linear_key_head_dim", 128),
        "ssm.group_count": config.integer("linear_num_key_heads", 16),
        "ssm.time_step_rank": config.integer("linear_num_value_heads", 32),
        "ssm.inner_size": config.integer("linear_num_value_heads", 32) * config.integer("linear_value_head_dim", 128),
        "full_attention_interval": interval,
        "attention.recurrent_layers": recurrent,
        **rope_sections(config, [11, 11, 10]),
    }


def _mixture(config: Section) -> dict[str, Any]:
    expect(config, "norm_topk_prob", True)
    expect(config, "decoder_sparse_step", 1)
    expect(config, "mlp_only_layers", [])
    lengths = {"length": "moe_intermediate_size", "shared_length": "shared_expert_intermediate_size"}
    return _hybrid(config) | experts(config, "num_experts", **lengths)


FAMILIES = (
    Family(
        "qwen35",
        ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
        _hybrid, QWEN35, OUTER, predicts=True, images=QWEN3VL,
    ),
    Family(
        "qwen35moe",
        ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
        _mixture, QWEN35, OUTER, predicts=True, images=QWEN3VL,
    ),
    Family("qwen3next", ("Qwen3NextForCausalLM",), _mixture, QWEN3_NEXT, OUTER, predicts=True),
)  # fmt: skip
