"""Qwen 3: Yang et al. (2025), and the text of Qwen 3-VL: Bai et al. (2025). Llama's blocks; each head of queries and
keys is normed."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import attend, logits, qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["OLD_KEYS", "Qwen3", "deepstack_of", "read", "trace"]

_SECTIONS = "rope.dimension_sections"
OLD_KEYS = {_SECTIONS: "rope.mrope_section"}
"""As ollama's own converter calls it in files of Qwen 3-VL."""


@dataclass(frozen=True)
class Qwen3(Decoder):
    """Rows of pictures have a further part for each of the first ``deepstack`` layers, added to what it makes."""

    deepstack: int = 0

    @property
    def given_cols(self) -> int:
        return self.width * (1 + self.deepstack)

    def embedded(self, g: Graph) -> Value:
        return g.embed("token_embd", given_cols=self.given_cols if self.deepstack else None)

    def deepened(self, g: Graph, layer: int, x: Value) -> Value:
        """What a layer has made, with its part of the pictures' rows."""
        if layer >= self.deepstack:
            return x
        return g.add_given(x, begin=(1 + layer) * self.width, width=self.given_cols)


def deepstack_of(keys: Keys, layers: int) -> int:
    """How many layers have a part of their own in the rows of pictures; ollama's converter names those of the
    encoder."""
    return keys.integer("n_deepstack_layers", keys.count("vision.deepstack_visual_indexes"), low=0, high=layers)


def read(keys: Keys) -> Qwen3:
    if keys.architecture.startswith("qwen3vl") and not keys.has(_SECTIONS):
        keys = keys.without({_SECTIONS: (24, 20, 20)})  # ollama's converter did not write them
    hp = read_decoder(keys, layout="neox", sections="interleaved")
    return Qwen3(**vars(hp), deepstack=deepstack_of(keys, hp.layers))


def trace(g: Graph, hp: Qwen3) -> Value:
    """Logits of the wanted rows."""
    x = hp.embedded(g)
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        q, k, v = qkv(g, hp, i, x, Norm(b + "attn_norm", hp.eps))
        a = attend(g, hp, i, q, k, v, q_norm=HeadNorm(hp.eps, b + "attn_q_norm"),
                   k_norm=HeadNorm(hp.eps, b + "attn_k_norm"))  # fmt: skip
        x = g.linear(a, b + "attn_output", add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ffn_norm", hp.eps))
        x = hp.deepened(g, i, g.linear(h, b + "ffn_down", add=x))
    return logits(g, x, Norm("output_norm", hp.eps))
