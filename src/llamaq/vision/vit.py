"""The encoder that most projectors have: a vision transformer of patches, without a mask."""

from __future__ import annotations

from typing import Literal, TypeAlias

from llamaq.errors import ModelError
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.rope import Rope, make_rope
from llamaq.vision.hparams import VisionHParams

__all__ = ["PATCHES", "POSITIONS", "block", "encoded", "placed", "square_rope"]

Layout: TypeAlias = Literal["norm", "neox"]
PATCHES, POSITIONS = "v.patch_embd", "v.position_embd"


def encoded(g: Graph, hp: VisionHParams) -> Value:
    """States of an image's patches, which the step gives: their pixels, channel by channel."""
    x = placed(g, hp)
    for i in g.layers(hp.layers):
        x = block(g, hp, i, x)
    return g.norm(x, Norm("v.post_ln", hp.eps, "layer"))


def placed(g: Graph, hp: VisionHParams) -> Value:
    """States before the first layer: of the pixels, and of their places."""
    places = g.shapes.of(f"{POSITIONS}.weight", 2)[0]
    if places != hp.grid**2:
        raise ModelError(f"tensor '{POSITIONS}.weight': expected {hp.grid**2} rows, one for each patch, got {places}")
    return g.linear(g.given(hp.patch_values), PATCHES, add=g.positions(POSITIONS))


def block(
    g: Graph, hp: VisionHParams, layer: int, x: Value, *, norm: Literal["rms", "layer"] = "layer",
    rope: Rope | None = None, by_time: bool = False,
) -> Value:  # fmt: skip
    """A layer: attention of all patches to all others, or ``by_time`` to those of their own part of the picture, and
    what follows it, which has a gate where the file has one."""
    b = f"v.blk.{layer}."
    names = (b + "attn_q", b + "attn_k", b + "attn_v")
    parts = g.split(b + "attn_qkv", [hp.width] * 3) if g.has(b + "attn_qkv") else names
    q, k, v = g.linear(x, *parts, norm=Norm(b + "ln1", hp.eps, norm))
    a = g.bidirectional_attention(
        q, k, v, heads=hp.heads, kv_heads=hp.heads, head_dim=hp.head_dim, scale=hp.scale, rope=rope, by_time=by_time
    )
    x = g.linear(a, b + "attn_out", add=x)
    before = Norm(b + "ln2", hp.eps, norm)
    up, down = b + "ffn_up", b + "ffn_down"
    if g.has(b + "ffn_gate"):
        h = g.glu_linear(x, b + "ffn_gate", up, norm=before, act=hp.activation)
    else:
        up, down = (down, up) if _exchanged(g, b, hp.width) else (up, down)
        h = g.act_linear(x, up, act=hp.activation, norm=before)
    return g.linear(h, down, add=x)


def _exchanged(g: Graph, b: str, width: int) -> bool:
    """Whether the two matrices have each other's names, as in LLaVA's files."""
    up, down = (g.shapes.of(f"{b}ffn_{name}.weight", 2)[1] for name in ("up", "down"))
    return up != width and down == width


def square_rope(
    head_dim: int, base: float = 10000.0, *, axes: tuple[int, int] = (1, 2), layout: Layout = "neox"
) -> Rope:
    """The first half of a head's pairs turns by the patch's row, the second by its column (or as ``axes`` say), at the
    same frequencies."""
    half = make_rope(head_dim // 2, base, layout=layout)
    pairs = len(half.frequencies)
    return Rope(half.frequencies * 2, layout=layout, axes=axes[:1] * pairs + axes[1:] * pairs)
