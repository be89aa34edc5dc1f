"""What the blocks of most architectures share, in the words that their files are written in."""

from __future__ import annotations

from typing import Any

from llamaq.errors import ModelError
from llamaq.models.hparams import Decoder
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.shapes import WeightName

__all__ = ["attend", "gate_up", "logits", "qkv"]


def qkv(g: Graph, hp: Decoder, layer: int, x: Value, norm: Norm | None) -> tuple[Value, Value, Value]:
    """Queries, keys and values, of three tensors or of one that holds the rows of all three."""
    b = f"blk.{layer}."
    names = (b + "attn_q", b + "attn_k", b + "attn_v")
    if not g.has(b + "attn_qkv"):
        q, k, v = g.linear(x, *names, norm=norm)
        return q, k, v
    heads = (hp.heads[layer], hp.kv_heads[layer], hp.kv_heads[layer])
    q, k, v = g.linear(x, *g.split(b + "attn_qkv", [n * hp.head_dim for n in heads], names), norm=norm)
    return q, k, v


def attend(g: Graph, hp: Decoder, layer: int, q: Value, k: Value, v: Value, **more: Any) -> Value:
    """Attention of a layer; ``more`` goes to ``Graph.attention``."""
    return g.attention(
        q, k, v, layer=layer, heads=hp.heads[layer], kv_heads=hp.kv_heads[layer], head_dim=hp.head_dim,
        scale=hp.scale, rope=hp.ropes[layer], window=hp.windows[layer], **more,
    )  # fmt: skip


def gate_up(g: Graph, layer: int) -> tuple[WeightName, WeightName]:
    """Gate and up where one tensor holds the rows of both, the gate's first."""
    up = f"blk.{layer}.ffn_up"
    rows = g.shapes.of(f"{up}.weight", 2)[0]
    if rows % 2:
        raise ModelError(f"tensor '{up}.weight': expected the rows of two matrices, got {rows}")
    gate, up_rows = g.split(up, [rows // 2, rows // 2])
    return gate, up_rows


def logits(g: Graph, x: Value, norm: Norm, *, scale: float = 1.0, softcap: float = 0.0) -> Value:
    """Logits of the wanted rows, or the numbers of a head that ranks. Without a matrix of its own the embedding table
    serves both ends."""
    if g.has("cls.output"):
        return g.linear(g.select_rows(x), "cls.output", norm=norm)
    output = "output" if g.has("output") else "token_embd"
    return g.linear(g.select_rows(x), output, norm=norm, scale=scale, softcap=softcap)
