"""gpt-oss: OpenAI (2025). Sinks that take part of each softmax, a window in every second layer, clamped experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.experts import Mixture, mixture, mixture_of
from llamaq.models.hparams import Decoder, read_decoder, windows_of
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["GptOss", "of_ollama", "read", "trace"]


_NAMES = ("attn_output", "post_attention_norm"), ("attn_out", "ffn_norm")  # the latter are ollama's


@dataclass(frozen=True)
class GptOss(Decoder):
    moe: Mixture


def of_ollama(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's converter did not say how the rope is stretched."""
    return {"gptoss.rope.scaling.type": "yarn", **metadata}


def read(keys: Keys) -> GptOss:
    hp = read_decoder(keys, layout="neox")
    hp = replace(hp, windows=windows_of(keys, hp.layers, size=128, period=2))
    return GptOss(**vars(hp), moe=mixture_of(keys, gating="softmax_of_chosen", normalize=False))


def trace(g: Graph, hp: GptOss) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        output, norm = (b + name for name in _NAMES[g.has(b + "attn_out")])
        x = g.linear(attend(g, hp, i, q, k, v, sinks=b + "attn_sinks"), output, add=x)
        n = g.norm(x, Norm(norm, hp.eps))
        x = mixture(g, n, i, hp.moe, add=x, act="clamped")
    return logits(g, x, Norm("output_norm", hp.eps))
