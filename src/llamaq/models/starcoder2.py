"""StarCoder 2: Lozhkov et al. (2024). Layer norms and matrices have biases; the second half of a block has no gate."""

from __future__ import annotations

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    return read_decoder(keys, layout="neox", norm="layer")


def trace(g: Graph, hp: Decoder) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps, "layer"))
        x = g.linear(attend(g, hp, i, q, k, v), b + "attn_output", add=x)
        h = g.act_linear(x, b + "ffn_up", act="gelu", norm=Norm(b + "ffn_norm", hp.eps, "layer"))
        x = g.linear(h, b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps, "layer"))
