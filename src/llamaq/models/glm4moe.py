"""GLM 4.5 to 4.7: GLM-4.5 team (2025). Blocks behind the first have experts, chosen with a bias, beside one that all
tokens go to; half of each head turns, and large models norm heads."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models import nextn
from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, feed_forward, mixture_of
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["Glm4Moe", "read", "trace", "trace_nextn"]


@dataclass(frozen=True)
class Glm4Moe(Decoder):
    """``dense`` blocks come before those with experts."""

    dense: int
    moe: Mixture


def read(keys: Keys) -> Glm4Moe:
    return Glm4Moe(
        **vars(read_decoder(keys, layout="neox")),
        dense=keys.integer("leading_dense_block_count", 0, low=0),
        moe=mixture_of(keys, gating="sigmoid", normalize=False),
    )


def trace(g: Graph, hp: Glm4Moe) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        x = _block(g, hp, i, x)
    return logits(g, x, Norm("output_norm", hp.eps))


def trace_nextn(g: Graph, hp: Glm4Moe) -> Value:
    """The same of the block that guesses further tokens."""
    return nextn.logits(g, hp, _block(g, nextn.with_block(hp), hp.layers, nextn.joined(g, hp)))


def _block(g: Graph, hp: Glm4Moe, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    q, k, v = qkv(g, hp, layer, x, Norm(b + "attn_norm", hp.eps))
    names = {f"{part}_norm": f"{b}attn_{part}_norm" for part in "qk"}
    norms = {norm: HeadNorm(hp.eps, name) for norm, name in names.items() if g.has(name)}
    x = g.linear(attend(g, hp, layer, q, k, v, **norms), b + "attn_output", add=x)
    return feed_forward(g, x, Norm(b + "post_attention_norm", hp.eps), layer, hp.moe if layer >= hp.dense else None)
