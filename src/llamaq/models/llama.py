"""Llama: Touvron et al. (2023), and the many models that share its blocks."""

from __future__ import annotations

import math

from llamaq.models.hparams import HParams
from llamaq.plan.graph import Graph, Norm, Value


def llama(g: Graph, hp: HParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = g.linear(x, b + "attn_q", b + "attn_k", b + "attn_v", norm=Norm(b + "attn_norm", hp.eps))
        a = g.attention(q, k, v, layer=i, heads=hp.heads[i], kv_heads=hp.kv_heads[i], head_dim=hp.head_dim,
                        scale=1 / math.sqrt(hp.head_dim), rope=hp.rope)  # fmt: skip
        x = g.linear(a, b + "attn_output", add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    output = "output" if g.has("output") else "token_embd"  # tied: the embedding table serves both ends
    return g.linear(g.select_rows(x), output, norm=Norm("output_norm", hp.eps))
