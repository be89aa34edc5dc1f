"""Granite 4 hybrids: Granite's blocks, most with Mamba-2 in the place of attention; some models have experts."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models import granite
from llamaq.models.blocks import logits
from llamaq.models.granite import Granite, attention, feed_forward
from llamaq.models.keys import Keys
from llamaq.models.mamba2 import Mixer, mamba2, mixer_of
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


@dataclass(frozen=True)
class _HParams(Granite):
    """Layers of a ``mixer`` have no KV heads."""

    mixer: Mixer


def read(keys: Keys) -> _HParams:
    return _HParams(**vars(granite.read(keys, least_kv_heads=0)), mixer=mixer_of(keys))


def trace(g: Graph, hp: _HParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd", scale=hp.embedding_scale)
    for i in g.layers(hp.layers):
        if hp.kv_heads[i]:
            x = attention(g, hp, i, x)
        else:
            x = mamba2(g, hp.mixer, i, x, Norm(f"blk.{i}.attn_norm", hp.eps), scale=hp.residual_scale)
        x = feed_forward(g, hp, i, x)
    return logits(g, x, Norm("output_norm", hp.eps), scale=hp.logit_scale)
