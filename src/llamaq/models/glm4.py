"""GLM 4: as Phi 3, with another norm behind each half of a block; half of each head turns."""

from __future__ import annotations

from llamaq.models.blocks import attend, gate_up, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    return read_decoder(keys, layout="norm", fused_gate=True)


def trace(g: Graph, hp: Decoder) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        a = g.linear(attend(g, hp, i, q, k, v), b + "attn_output")
        x = g.norm(a, Norm(b + "post_attention_norm", hp.eps), add=x)
        h = g.glu_linear(x, *gate_up(g, i), norm=Norm(b + "ffn_norm", hp.eps))
        x = g.norm(g.linear(h, b + "ffn_down"), Norm(b + "post_ffw_norm", hp.eps), add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
