"""Gemma 2: Riviere et al. (2024). Gemma with windows, caps on scores and logits, and norms behind halves of blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder, windows_of
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["Gemma2", "read", "scale_of", "trace"]


@dataclass(frozen=True)
class Gemma2(Decoder):
    head_norms: bool  # Gemma 3
    attention_softcap: float
    final_softcap: float


def read(keys: Keys) -> Gemma2:
    hp = read_decoder(keys, layout="neox")
    windows = windows_of(keys, hp.layers, size=4096, period=2)
    return Gemma2(
        **vars(replace(hp, windows=windows, scale=scale_of(hp, 46))),
        head_norms=False,
        attention_softcap=keys.non_negative("attn_logit_softcapping", 50.0),
        final_softcap=keys.non_negative("final_logit_softcapping", 30.0),
    )


def scale_of(hp: Decoder, layers_of_27b: int) -> float:
    """That of attention: the largest model takes the width of a head from that of a row."""
    return 1 / math.sqrt(hp.width / hp.heads[0]) if hp.layers == layers_of_27b else hp.scale


def trace(g: Graph, hp: Gemma2) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd", scale=math.sqrt(hp.width))
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        norms: dict[str, Any] = {f"{n}_norm": HeadNorm(hp.eps, f"{b}attn_{n}_norm") for n in "qk" if hp.head_norms}
        a = g.linear(attend(g, hp, i, q, k, v, softcap=hp.attention_softcap, **norms), b + "attn_output")
        x = g.norm(a, Norm(b + "post_attention_norm", hp.eps), add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", act="gelu", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.norm(g.linear(h, b + "ffn_down"), Norm(b + "post_ffw_norm", hp.eps), add=x)
    return logits(g, x, Norm("output_norm", hp.eps), softcap=hp.final_softcap)
