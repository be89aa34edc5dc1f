"""LFM2: Liquid AI (2025). Most layers have a short convolution in the place of attention; some models have experts."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["read", "trace"]


@dataclass(frozen=True)
class _HParams(Decoder):
    """``taps`` of the convolutions; layers that have one have no KV heads. ``dense`` blocks come before those with
    experts."""

    taps: int
    dense: int
    moe: Mixture | None


def read(keys: Keys) -> _HParams:
    hp = read_decoder(keys, layout="neox", least_kv_heads=0, believes_length=False)  # ollama's is before an adjustment
    return _HParams(
        **vars(hp),
        taps=keys.integer("shortconv.l_cache", low=2, high=1 << 10),
        dense=keys.integer("leading_dense_block_count", 0, low=0),
        moe=mixture_of(keys, gating="sigmoid") if keys.integer("expert_count", 0, low=0) > 0 else None,
    )


def trace(g: Graph, hp: _HParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        norm = Norm(b + "attn_norm", hp.eps)
        if hp.kv_heads[i]:
            q, k, v = qkv(g, hp, i, x, norm)
            a = attend(g, hp, i, q, k, v, q_norm=HeadNorm(hp.eps, b + "attn_q_norm"),
                       k_norm=HeadNorm(hp.eps, b + "attn_k_norm"))  # fmt: skip
            x = g.linear(a, b + "attn_output", add=x)
        else:
            gates = g.linear(x, b + "shortconv.in_proj", norm=norm)
            y = g.short_conv(gates, b + "shortconv.conv", layer=i, taps=hp.taps)
            x = g.linear(y, b + "shortconv.out_proj", add=x)
        norm = Norm(b + "ffn_norm", hp.eps)
        if hp.moe is not None and i >= hp.dense:
            x = mixture(g, g.norm(x, norm), i, hp.moe, add=x)
        else:
            x = g.linear(g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=norm), b + "ffn_down", add=x)
    last = "token_embd_norm" if g.has("token_embd_norm") else "output_norm"  # older files
    return g.linear(g.select_rows(x), "token_embd", norm=Norm(last, hp.eps))
