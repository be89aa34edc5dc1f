"""Llama 4: Meta (2025), Scout, Maverick, and Llama Guard 4 without experts. Three of four layers see their chunk of
positions, with rope; the fourth sees all, without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llamaq.models.blocks import logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of, shared_expert
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Temperature, Value

__all__ = ["Llama4", "read", "trace"]

_PERIOD = 4  # layers, of which the last sees all


@dataclass(frozen=True)
class Llama4(Decoder):
    """``moe`` stands in every ``step``-th layer; ``chunk`` counts tokens."""

    moe: Mixture | None
    step: int
    chunk: int

    @property
    def norms_heads(self) -> bool:
        return self.moe is None or self.moe.count != 128  # Maverick does not


def read(keys: Keys) -> Llama4:
    has_experts = keys.integer("expert_count", 0, low=0) > 0
    hp = read_decoder(keys, layout="norm", believes_length=False)  # ollama's is that of the experts
    return Llama4(
        **vars(hp),
        moe=mixture_of(keys, gating="sigmoid", normalize=False) if has_experts else None,
        step=keys.integer("interleave_moe_layer_step", 1),
        chunk=keys.integer("attention.sliding_window", 8192, low=0),
    )


def trace(g: Graph, hp: Llama4) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        a = g.attention(
            q, k, v, layer=i, heads=hp.heads[i], kv_heads=hp.kv_heads[i], head_dim=hp.head_dim, scale=hp.scale,
            **_seen(hp, i),
        )  # fmt: skip
        x = g.linear(a, b + "attn_output", add=x)
        norm = Norm(b + "ffn_norm", hp.eps)
        if hp.moe is not None and (i + 1) % hp.step == 0:
            n = g.norm(x, norm)
            x = mixture(g, n, i, hp.moe, add=shared_expert(g, n, i, add=x), weighted_input=True)
        else:
            x = g.linear(g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=norm), b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))


def _seen(hp: Llama4, layer: int) -> dict[str, Any]:
    """What a layer sees, and how it tells positions apart."""
    if (layer + 1) % _PERIOD == 0:
        return {"rope": None, "temperature": Temperature(0.1, 8192, 1)}
    norm = HeadNorm(hp.eps, after_rope=True) if hp.norms_heads else None
    return {"rope": hp.rope, "chunk": hp.chunk, "q_norm": norm, "k_norm": norm}
