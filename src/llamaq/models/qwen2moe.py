"""Qwen 1.5 and 2 with experts: Bai et al. (2024). Beside those that a token chooses, all go to one behind a gate."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of, shared_expert
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["Qwen2Moe", "read", "trace"]


@dataclass(frozen=True)
class Qwen2Moe(Decoder):
    moe: Mixture


def read(keys: Keys) -> Qwen2Moe:
    return Qwen2Moe(**vars(read_decoder(keys, layout="neox")), moe=mixture_of(keys, normalize=False))


def trace(g: Graph, hp: Qwen2Moe) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        x = g.linear(attend(g, hp, i, q, k, v), b + "attn_output", add=x)
        n = g.norm(x, Norm(b + "ffn_norm", hp.eps))
        x = shared_expert(g, n, i, add=mixture(g, n, i, hp.moe, add=x))
    return logits(g, x, Norm("output_norm", hp.eps))
