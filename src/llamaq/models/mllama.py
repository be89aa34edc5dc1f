"""Llama 3.2 Vision: Meta (2024). Llama 3.1 with further layers that look at a picture's states; rows behind no picture
pass those by, as in Meta's own code. Keys and values of the states are the image encoder's work (``vision``)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from llamaq.errors import ModelError
from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["GATES", "Mllama", "read", "trace"]

GATES = ("cross_attn_attn_gate", "cross_attn_mlp_gate")
"""Tensors of one number, of layers with cross-attention."""


@dataclass(frozen=True)
class Mllama(Decoder):
    """``cross`` are the numbers of layers with cross-attention; ``gates`` of attention and feed-forward, by layer."""

    cross: tuple[int, ...]
    gates: dict[int, tuple[float, float]]


def read(keys: Keys) -> Mllama:
    hp = read_decoder(keys, layout="norm")
    cross = keys.integers("attention.cross_attention_layers", low=1, high=hp.layers - 1)
    if list(cross) != sorted({*cross}):
        raise keys.error("attention.cross_attention_layers", list(cross), "numbers of layers in ascending order")
    gates = {i: (_gate(keys, i, GATES[0]), _gate(keys, i, GATES[1])) for i in cross}
    return Mllama(**vars(hp), cross=cross, gates=gates)


def _gate(keys: Keys, layer: int, name: str) -> float:
    """tanh of the one number of a tensor, the same on every machine."""
    full = f"blk.{layer}.{name}"
    found = keys.vectors.get(full, keys.vectors.get(f"{full}.weight"))
    if found is None or len(found) != 1 or not abs(found[0]) < 1e30:
        raise ModelError(f"tensor {full!r}: expected one finite number, got {'none' if found is None else len(found)}")
    with localcontext() as context:
        context.prec = 40
        x = Decimal(max(-30.0, min(30.0, float(found[0]))))  # beyond them it is 1 in any precision here
        up, down = x.exp(), (-x).exp()
        return float((up - down) / (up + down))


def trace(g: Graph, hp: Mllama) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        norm = Norm(b + "attn_norm", hp.eps)
        if i in hp.cross:
            x = _looks(g, hp, i, x)
            continue
        q, k, v = qkv(g, hp, i, x, norm)
        x = g.linear(attend(g, hp, i, q, k, v), b + "attn_output", add=x)
        x = g.linear(_gated(g, hp, i, x), b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))


def _gated(g: Graph, hp: Mllama, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    return g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))


def _looks(g: Graph, hp: Mllama, layer: int, x: Value) -> Value:
    """A layer with cross-attention, for the rows that see a picture."""
    b, heads = f"blk.{layer}.", hp.heads[layer]
    attention, mlp = hp.gates[layer]
    with g.only_marked():
        q = g.linear(x, b + "cross_attn_q_proj", norm=Norm(b + "attn_norm", hp.eps))
        q = g.norm(q, Norm(b + "cross_attn_q_norm", hp.eps), heads=heads)
        a = g.cross_attention(
            q, layer=hp.cross.index(layer), heads=heads, kv_heads=hp.kv_heads[layer], head_dim=hp.head_dim,
            scale=hp.scale,
        )  # fmt: skip
        y = g.linear(a, b + "cross_attn_o_proj", add=x, scale=attention)
        y = g.linear(_gated(g, hp, layer, y), b + "ffn_down", add=y, scale=mlp)
    return g.choose(y, x)
