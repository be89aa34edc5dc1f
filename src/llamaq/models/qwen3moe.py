"""Qwen 3 and the text of Qwen 3-VL, with experts: Yang et al. (2025)."""

from __future__ import annotations

from dataclasses import dataclass, field

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of
from llamaq.models.keys import Keys
from llamaq.models.qwen3 import OLD_KEYS, Qwen3
from llamaq.models.qwen3 import read as read_dense
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["OLD_KEYS", "Qwen3Moe", "read", "trace"]


@dataclass(frozen=True)
class Qwen3Moe(Qwen3):
    moe: Mixture = field(kw_only=True)


def read(keys: Keys) -> Qwen3Moe:
    return Qwen3Moe(**vars(read_dense(keys)), moe=mixture_of(keys))


def trace(g: Graph, hp: Qwen3Moe) -> Value:
    """Logits of the wanted rows."""
    x = hp.embedded(g)
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        norms = {f"{part}_norm": HeadNorm(hp.eps, f"{b}attn_{part}_norm") for part in "qk"}
        x = g.linear(attend(g, hp, i, q, k, v, **norms), b + "attn_output", add=x)
        x = hp.deepened(g, i, mixture(g, g.norm(x, Norm(b + "ffn_norm", hp.eps)), i, hp.moe, add=x))
    return logits(g, x, Norm("output_norm", hp.eps))
