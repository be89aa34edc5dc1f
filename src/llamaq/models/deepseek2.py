"""DeepSeek 2 and 3: DeepSeek-AI (2024). Keys and values of all heads are read from one compressed row, which the cache
keeps (MLA); blocks behind the first have experts, beside one that all tokens go to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llamaq.errors import ModelError
from llamaq.models import nextn
from llamaq.models.blocks import logits
from llamaq.models.experts import Mixture, feed_forward, mixture_of
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["DeepSeek2", "of_ollama", "read", "trace", "trace_nextn"]


@dataclass(frozen=True)
class DeepSeek2(Decoder):
    """``compressed`` numbers and those that the rope turns (``rope.dims``) are kept for each token. ``dense`` blocks
    come before those with experts."""

    compressed: int
    dense: int
    moe: Mixture | None


def of_ollama(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's converter gave the lengths of a head (GLM-4.7-Flash): here they are those of the compressed row."""
    keys = Keys(metadata, {}, "glm4moelite")
    compressed, head = keys.integer("attention.kv_lora_rank"), keys.integer("attention.key_length")
    absorbed = {
        "head_count_kv": 1,
        "key_length": compressed + keys.integer("rope.dimension_count"),
        "value_length": compressed,
        "key_length_mla": head,
        "value_length_mla": head,
    }
    return {**metadata, **{f"glm4moelite.attention.{key}": value for key, value in absorbed.items()}}


def read(keys: Keys) -> DeepSeek2:
    if "blk.0.attn_kv_b.weight" in keys.shapes and "blk.0.attn_k_b.weight" not in keys.shapes:
        raise ModelError(
            "tensor 'blk.0.attn_kv_b.weight': expected attn_k_b and attn_v_b in its place; the file was made before "
            "April 2025, so download a newer one, or convert the model again"
        )
    compressed = keys.integer("attention.kv_lora_rank")
    hp = read_decoder(keys, layout="norm", value_dim=compressed)
    if hp.head_dim != compressed + hp.rope.dims:
        expected = f"{compressed + hp.rope.dims} (attention.kv_lora_rank + rope.dimension_count)"
        raise keys.error("attention.key_length", hp.head_dim, expected)
    # YaRN scales the scores here, and not the rotation.
    stretch = 1.0
    if keys.string("rope.scaling.type", "none") == "yarn":
        factor = keys.non_negative("rope.scaling.factor", 1.0) or 1.0
        stretch = 1 + 0.1 * 10 * keys.non_negative("rope.scaling.yarn_log_multiplier", 0.0) * math.log(factor)
    rope = replace(hp.rope, attention_factor=1.0)
    hp = replace(
        hp, rope=rope, ropes=(rope,) * hp.layers, scale=stretch**2 / math.sqrt(keys.integer("attention.key_length_mla"))
    )
    has_experts = keys.integer("expert_count", 0, low=0) > 0
    return DeepSeek2(
        **vars(hp),
        compressed=compressed,
        dense=keys.integer("leading_dense_block_count", 0, low=0),
        moe=mixture_of(keys, normalize=False) if has_experts else None,
    )


def trace(g: Graph, hp: DeepSeek2) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        x = _block(g, hp, i, x)
    return logits(g, x, Norm("output_norm", hp.eps))


def trace_nextn(g: Graph, hp: DeepSeek2) -> Value:
    """The same of the block that guesses further tokens."""
    return nextn.logits(g, hp, _block(g, nextn.with_block(hp), hp.layers, nextn.joined(g, hp)))


def _block(g: Graph, hp: DeepSeek2, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    x = g.linear(_attention(g, hp, layer, x), b + "attn_output", add=x)
    return feed_forward(g, x, Norm(b + "ffn_norm", hp.eps), layer, hp.moe if layer >= hp.dense else None)


def _attention(g: Graph, hp: DeepSeek2, layer: int, x: Value) -> Value:
    """Queries are brought into the space of the compressed rows, and what these sum up to out of it."""
    b, heads, both = f"blk.{layer}.", hp.heads[layer], hp.compressed + hp.rope.dims
    norm = Norm(b + "attn_norm", hp.eps)
    row = b + "attn_kv_a_mqa"
    c, turned = g.linear(x, g.rows(row, 0, hp.compressed), g.rows(row, hp.compressed, both), norm=norm)
    k = g.concat(g.norm(c, Norm(b + "attn_kv_a_norm", hp.eps)), turned)
    if g.has(b + "attn_q_a"):
        q = g.linear(g.linear(x, b + "attn_q_a", norm=norm), b + "attn_q_b", norm=Norm(b + "attn_q_a_norm", hp.eps))
    else:
        q = g.linear(x, b + "attn_q", norm=norm)
    a = g.attention(
        g.head_linear(q, b + "attn_k_b", heads=heads), k, None, layer=layer, heads=heads, kv_heads=1,
        head_dim=hp.head_dim, scale=hp.scale, rope=hp.rope, value_dim=hp.compressed, rope_offset=hp.compressed,
    )  # fmt: skip
    return g.head_linear(a, b + "attn_v_b", heads=heads)
