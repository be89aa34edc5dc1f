"""OLMo 2 and 3: norms stand behind each half of a block, and whole rows of queries and keys are normed.

Walsh et al. (2024). OLMo 3 has windows in three of four blocks, whose ropes are not stretched.
"""

from __future__ import annotations

from dataclasses import replace

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder, windows_of
from llamaq.models.keys import Keys
from llamaq.models.ropes import local_rope_of
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    hp = read_decoder(keys, layout="neox")
    windows = windows_of(keys, hp.layers, period=4)
    base = keys.positive("rope.freq_base", 10000.0)
    local = local_rope_of(keys, hp.head_dim, layout="neox", base=base)
    return replace(hp, windows=windows, ropes=tuple(local if window else hp.rope for window in windows))


def trace(g: Graph, hp: Decoder) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, None)
        q, k = g.norm(q, Norm(b + "attn_q_norm", hp.eps)), g.norm(k, Norm(b + "attn_k_norm", hp.eps))
        a = g.linear(attend(g, hp, i, q, k, v), b + "attn_output")
        x = g.norm(a, Norm(b + "post_attention_norm", hp.eps), add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up")
        x = g.norm(g.linear(h, b + "ffn_down"), Norm(b + "post_ffw_norm", hp.eps), add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
