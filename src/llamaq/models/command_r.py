"""Command R: both halves of a block read the same layer norm; the largest models norm each head of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["CommandR", "read", "trace"]


@dataclass(frozen=True)
class CommandR(Decoder):
    logit_scale: float


def read(keys: Keys) -> CommandR:
    hp = read_decoder(keys, layout="norm", norm="layer")
    return CommandR(**vars(hp), logit_scale=keys.non_negative("logit_scale", 0.0) or 1.0)


def trace(g: Graph, hp: CommandR) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        norm = Norm(b + "attn_norm", hp.eps, "layer")
        q, k, v = qkv(g, hp, i, x, norm)
        q_norm, k_norm = (
            HeadNorm(hp.eps, name, "layer") if g.has(name) else None for name in (b + "attn_q_norm", b + "attn_k_norm")
        )
        a = g.linear(attend(g, hp, i, q, k, v, q_norm=q_norm, k_norm=k_norm), b + "attn_output", add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=norm)
        x = g.linear(h, b + "ffn_down", add=a)
    return logits(g, x, Norm("output_norm", hp.eps, "layer"), scale=hp.logit_scale)
