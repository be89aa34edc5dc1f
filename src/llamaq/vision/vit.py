"""The encoder that most projectors have: a vision transformer of patches, without a mask."""

from __future__ import annotations

from llamaq.errors import ModelError
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.vision.hparams import VisionHParams

__all__ = ["PATCHES", "POSITIONS", "encoded"]

PATCHES, POSITIONS = "v.patch_embd", "v.position_embd"


def encoded(g: Graph, hp: VisionHParams) -> Value:
    """States of an image's patches, which the step gives: their pixels, channel by channel."""
    places = g.shapes.of(f"{POSITIONS}.weight", 2)[0]
    if places != hp.grid**2:
        raise ModelError(f"tensor '{POSITIONS}.weight': expected {hp.grid**2} rows, one for each patch, got {places}")
    x = g.linear(g.given(hp.patch_values), PATCHES, add=g.positions(POSITIONS))
    for i in g.layers(hp.layers):
        b = f"v.blk.{i}."
        norm = Norm(b + "ln1", hp.eps, "layer")
        q, k, v = g.linear(x, b + "attn_q", b + "attn_k", b + "attn_v", norm=norm)
        a = g.bidirectional_attention(
            q, k, v, heads=hp.heads, kv_heads=hp.heads, head_dim=hp.head_dim, scale=hp.scale, rope=None
        )
        x = g.linear(a, b + "attn_out", add=x)
        h = g.act_linear(x, b + "ffn_up", act=hp.activation, norm=Norm(b + "ln2", hp.eps, "layer"))
        x = g.linear(h, b + "ffn_down", add=x)
    return g.norm(x, Norm("v.post_ln", hp.eps, "layer"))
