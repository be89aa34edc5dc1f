"""Llama: Touvron et al. (2023), and the many models that share its blocks."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["Llama", "read", "trace"]


@dataclass(frozen=True)
class Llama(Decoder):
    moe: Mixture | None  # Mixtral


def read(keys: Keys) -> Llama:
    moe = mixture_of(keys) if keys.integer("expert_count", 0, low=0) else None
    return Llama(**vars(read_decoder(keys, layout="norm")), moe=moe)


def trace(g: Graph, hp: Llama) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        x = g.linear(attend(g, hp, i, q, k, v), b + "attn_output", add=x)
        if hp.moe is not None:
            x = mixture(g, g.norm(x, Norm(b + "ffn_norm", hp.eps)), i, hp.moe, add=x)
            continue
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
