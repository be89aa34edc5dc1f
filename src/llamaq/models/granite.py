"""Granite 3 and 4: Llama's blocks with a scale for the embeddings, each half of a block, attention and the logits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of, shared_expert
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["Granite", "attention", "feed_forward", "read", "trace"]


@dataclass(frozen=True)
class Granite(Decoder):
    moe: Mixture | None
    embedding_scale: float
    residual_scale: float
    logit_scale: float


def read(keys: Keys, *, least_kv_heads: int = 1) -> Granite:
    hp = read_decoder(keys, layout="norm", least_kv_heads=least_kv_heads)
    if not keys.flag("rope.scaling.finetuned", True):  # the key's meaning in this architecture alone
        hp = replace(hp, ropes=(None,) * hp.layers)
    embedding, residual, divisor = (
        keys.non_negative(key, 0.0) or 1.0 for key in ("embedding_scale", "residual_scale", "logit_scale")
    )
    moe = mixture_of(keys) if keys.integer("expert_count", 0, low=0) else None
    if moe is not None:  # weights of experts have the scale of their half of the block
        moe = replace(moe, scale=moe.scale * residual)
    return Granite(**vars(hp), moe=moe, embedding_scale=embedding, residual_scale=residual, logit_scale=1 / divisor)


def trace(g: Graph, hp: Granite) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd", scale=hp.embedding_scale)
    for i in g.layers(hp.layers):
        x = feed_forward(g, hp, i, attention(g, hp, i, x))
    return logits(g, x, Norm("output_norm", hp.eps), scale=hp.logit_scale)


def attention(g: Graph, hp: Granite, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    q, k, v = qkv(g, hp, layer, x, Norm(b + "attn_norm", hp.eps))
    return g.linear(attend(g, hp, layer, q, k, v), b + "attn_output", add=x, scale=hp.residual_scale)


def feed_forward(g: Graph, hp: Granite, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    norm = Norm(b + "ffn_norm", hp.eps)
    if hp.moe is None:
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=norm)
        return g.linear(h, b + "ffn_down", add=x, scale=hp.residual_scale)
    n = g.norm(x, norm)
    x = mixture(g, n, layer, hp.moe, add=x)
    return shared_expert(g, n, layer, add=x, scale=hp.residual_scale) if g.has(b + "ffn_up_shexp") else x
