"""Mistral Small and Ministral 3: Llama's blocks; far positions make attention more pointed."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Temperature, Value

__all__ = ["OLD_KEYS", "Mistral3", "read", "trace"]

OLD_KEYS = {
    "rope.scaling.yarn_beta_fast": "rope.scaling.beta_fast",
    "rope.scaling.yarn_beta_slow": "rope.scaling.beta_slow",
    "rope.scaling.yarn_log_multiplier": "rope.scaling.mscale_all_dim",
    "attention.temperature_scale": "rope.scaling_beta",
}
"""As ollama's converter called them."""


@dataclass(frozen=True)
class Mistral3(Decoder):
    temperature: Temperature | None


def read(keys: Keys) -> Mistral3:
    hp = read_decoder(keys, layout="norm")
    scale = keys.non_negative("attention.temperature_scale", 0.0)
    length = keys.integer("attention.temperature_length", 0, low=0)
    length = length or keys.integer("rope.scaling.original_context_length", hp.context_length)
    return Mistral3(**vars(hp), temperature=Temperature(scale, length) if scale else None)


def trace(g: Graph, hp: Mistral3) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        a = attend(g, hp, i, q, k, v, temperature=hp.temperature)
        x = g.linear(a, b + "attn_output", add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = g.linear(h, b + "ffn_down", add=x)
    return logits(g, x, Norm("output_norm", hp.eps))
