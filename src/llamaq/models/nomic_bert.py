"""Nomic Embed: Nussbaum et al. (2024). BERT with a rope in the place of rows for positions, and a gate."""

from __future__ import annotations

from llamaq.models.encoders import Encoder, attended, embedded, read_encoder, result
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Encoder:
    return read_encoder(keys)


def trace(g: Graph, hp: Encoder) -> Value:
    """States of the wanted rows, or scores."""
    x = embedded(g, hp)
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        x = attended(g, hp, i, x, hp.rope)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up")
        x = g.norm(g.linear(h, b + "ffn_down", add=x), Norm(b + "layer_output_norm", hp.eps, "layer"))
    return result(g, hp, x)
