"""BERT: Devlin et al. (2018); RoBERTa and XLM-RoBERTa. Norms behind both halves of a block, biases, rows for positions.

Their gelu is the exact one, as in the models' own code; llama.cpp takes the form with tanh.
"""

from __future__ import annotations

from llamaq.models.encoders import Encoder, attended, embedded, read_encoder, result
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["read", "trace"]


def read(keys: Keys) -> Encoder:
    return read_encoder(keys)


def trace(g: Graph, hp: Encoder) -> Value:
    """States of the wanted rows, or scores."""
    x = embedded(g, hp, positions="position_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        x = attended(g, hp, i, x, None)
        h = g.act_linear(x, b + "ffn_up", act="gelu_erf")
        x = g.norm(g.linear(h, b + "ffn_down", add=x), Norm(b + "layer_output_norm", hp.eps, "layer"))
    return result(g, hp, x)
