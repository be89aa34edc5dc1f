"""Llama: Touvron et al. (2023), and the many models that share its blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llamaq.models.experts import Mixture, mixture, mixture_of
from llamaq.models.hparams import (
    HParams,
    block_count,
    check_feed_forward,
    head_dim_of,
    kv_heads_of,
    rope_of,
    vocab_size,
)
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.rope import Rope

__all__ = ["LlamaHParams", "read", "trace"]


@dataclass(frozen=True)
class LlamaHParams(HParams):
    """``heads`` and ``kv_heads`` have one entry per layer."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    head_dim: int
    eps: float
    rope: Rope
    moe: Mixture | None  # Mixtral


def read(keys: Keys) -> LlamaHParams:
    """Raises ``ModelError`` for a key that is missing, out of range or contradicted by another one or the tensors."""
    moe = mixture_of(keys) if keys.integer("expert_count", 0, low=0) else None
    layers = block_count(keys)
    width = keys.integer("embedding_length")
    vocabulary = vocab_size(keys, width)
    context = keys.integer("context_length")
    heads = keys.per_layer("attention.head_count", layers)
    kv_heads = kv_heads_of(keys, layers, heads)
    head_dim = head_dim_of(keys, width, heads)
    eps = keys.positive("attention.layer_norm_rms_epsilon")
    check_feed_forward(keys, layers)
    rope = rope_of(keys, head_dim, context, layout="norm")
    return LlamaHParams(keys.architecture, layers, width, vocabulary, context, heads, kv_heads, head_dim, eps, rope,
                        moe)  # fmt: skip


def trace(g: Graph, hp: LlamaHParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = g.linear(x, b + "attn_q", b + "attn_k", b + "attn_v", norm=Norm(b + "attn_norm", hp.eps))
        a = g.attention(q, k, v, layer=i, heads=hp.heads[i], kv_heads=hp.kv_heads[i], head_dim=hp.head_dim,
                        scale=1 / math.sqrt(hp.head_dim), rope=hp.rope)  # fmt: skip
        x = g.linear(a, b + "attn_output", add=x)
        if hp.moe is not None:
            x = mixture(g, g.rms_norm(x, b + "ffn_norm", hp.eps), i, hp.moe, add=x)
            continue
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    output = "output" if g.has("output") else "token_embd"  # tied: the embedding table serves both ends
    return g.linear(g.select_rows(x), output, norm=Norm("output_norm", hp.eps))
