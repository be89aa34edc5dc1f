"""Nemotron-H (NVIDIA 2025) and Nemotron 3: a layer is Mamba-2, attention without a rope, or a half without a gate, or
experts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llamaq.errors import ModelError
from llamaq.models import nextn
from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture_of, routed
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.models.mamba2 import Mixer, mamba2, mixer_of
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace", "trace_nextn"]


@dataclass(frozen=True)
class _HParams(Decoder):
    """Layers with attention have KV heads, those with a feed-forward half its ``lengths``, those of a ``mixer``
    neither."""

    mixer: Mixer
    lengths: tuple[int, ...]
    moe: Mixture | None


def read(keys: Keys) -> _HParams:
    hp = read_decoder(keys, layout="norm", least_kv_heads=0)
    return _HParams(
        **vars(replace(hp, ropes=(None,) * hp.layers)),
        mixer=mixer_of(keys),
        lengths=keys.per_layer("feed_forward_length", hp.layers, low=0),
        moe=mixture_of(keys, gating="sigmoid") if keys.integer("expert_count", 0, low=0) else None,
    )


def trace(g: Graph, hp: _HParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        norm = Norm(b + "attn_norm", hp.eps)
        if hp.kv_heads[i]:
            x = _attention(g, hp, i, x, norm)
        elif not hp.lengths[i]:
            x = mamba2(g, hp.mixer, i, x, norm)
        else:
            x = _feed_forward(g, hp, i, x, norm)
    return logits(g, x, Norm("output_norm", hp.eps))


def trace_nextn(g: Graph, hp: _HParams) -> Value:
    """The same of the block that guesses further tokens, which has attention and behind it experts."""
    b, heads = f"blk.{hp.layers}.", max(hp.kv_heads)
    if not heads:
        raise ModelError("no layer has attention, whose heads a block that guesses further tokens would have")
    more = replace(nextn.with_block(hp), kv_heads=(*hp.kv_heads, heads))
    x = _attention(g, more, hp.layers, nextn.joined(g, hp), Norm(b + "attn_norm", hp.eps))
    return nextn.logits(g, hp, _feed_forward(g, hp, hp.layers, x, Norm(b + "post_attention_norm", hp.eps)))


def _attention(g: Graph, hp: _HParams, layer: int, x: Value, norm: Norm) -> Value:
    q, k, v = qkv(g, hp, layer, x, norm)
    return g.linear(attend(g, hp, layer, q, k, v), f"blk.{layer}.attn_output", add=x)


def _feed_forward(g: Graph, hp: _HParams, layer: int, x: Value, norm: Norm) -> Value:
    b = f"blk.{layer}."
    if hp.moe is not None and g.has(b + "ffn_gate_inp"):
        return _experts(g, hp.moe, layer, x, norm)
    return g.linear(g.act_linear(x, b + "ffn_up", act="relu2", norm=norm), b + "ffn_down", add=x)


def _experts(g: Graph, moe: Mixture, layer: int, x: Value, norm: Norm) -> Value:
    """The large models' experts read and write fewer columns than a layer has."""
    b = f"blk.{layer}."
    n = g.norm(x, norm)
    x = g.linear(g.act_linear(n, b + "ffn_up_shexp", act="relu2"), b + "ffn_down_shexp", add=x)
    r = g.linear(n, b + "ffn_gate_inp")
    for down, up in (("ffn_latent_down", "ffn_latent_up"), ("ffn_latent_in", "ffn_latent_out")):  # ollama's are last
        if g.has(b + down):
            h = routed(g, g.linear(n, b + down), r, layer, moe, act="relu2", gated=False)
            return g.linear(h, b + up, add=x)
    return routed(g, n, r, layer, moe, add=x, act="relu2", gated=False)
