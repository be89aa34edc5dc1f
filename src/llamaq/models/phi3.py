"""Phi 3, 3.5 and 4: Abdin et al. (2024). Llama's blocks; one tensor holds queries, keys and values, one gate and up.

Files name a window, too; as in llama.cpp it is not used.
"""

from __future__ import annotations

from llamaq.models.blocks import attend, gate_up, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    return read_decoder(keys, layout="neox", fused_gate=True)


def trace(g: Graph, hp: Decoder) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        x = g.linear(attend(g, hp, i, q, k, v), b + "attn_output", add=x)
        h = g.glu_linear(x, *gate_up(g, i), norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
