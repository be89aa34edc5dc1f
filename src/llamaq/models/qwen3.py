"""Qwen 3: Yang et al. (2025). Llama's blocks; each head of queries and keys is normed."""

from __future__ import annotations

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    return read_decoder(keys, layout="neox")


def trace(g: Graph, hp: Decoder) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        a = attend(g, hp, i, q, k, v, q_norm=HeadNorm(hp.eps, b + "attn_q_norm"),
                   k_norm=HeadNorm(hp.eps, b + "attn_k_norm"))  # fmt: skip
        x = g.linear(a, b + "attn_output", add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
