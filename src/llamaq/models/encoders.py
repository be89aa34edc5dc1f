"""What encoders share: they read a text in both directions and give states, or a score where a file has its head."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.errors import ModelError, naming
from llamaq.models.blocks import qkv
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import POOLING_RANK, Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.rope import Rope

__all__ = ["Encoder", "attended", "embedded", "read_encoder", "result"]


@dataclass(frozen=True)
class Encoder(Decoder):
    """What decoders have; ``ranks``: the result is a score of the whole text. Two texts in one, behind each other, have
    the token ``separator`` between them."""

    ranks: bool
    separator: int


def read_encoder(keys: Keys) -> Encoder:
    """As ``read_decoder``. Raises ``ValueError`` for a context (n_ctx) of more positions than the file has."""
    if keys.flag("attention.causal", False):
        raise keys.error("attention.causal", True, "false: encoders that see no later token are not supported")
    hp = Encoder(
        **vars(read_decoder(keys, layout="neox", norm="layer")),
        ranks=keys.integer("pooling_type", 0, low=0) == POOLING_RANK,
        separator=keys.token("seperator", 102),  # the key is spelled so
    )
    if (shape := keys.shapes.get("position_embd.weight")) is None or len(shape) != 2:
        return hp
    if hp.context_length > shape[0]:
        raise keys.error("context_length", hp.context_length, f"at most {shape[0]}, the rows of 'position_embd.weight'")
    if keys.n_ctx is not None and keys.n_ctx > shape[0]:
        message = f"n_ctx must be at most {shape[0]}, the positions that the model has; got {keys.n_ctx}"
        raise naming(ValueError(message), "n_ctx")
    return hp


def embedded(g: Graph, hp: Encoder, *, positions: str | None = None) -> Value:
    """Tokens, their types and ``positions``, normed. Where two texts are ranked, the second has a type of its own if
    there is one."""
    types = "token_types" if g.has("token_types") else None
    two = hp.ranks and types is not None and g.shapes.of("token_types.weight", 2)[0] > 1
    x = g.embed("token_embd", types=types, second_after=hp.separator if two else None, positions=positions)
    return g.norm(x, Norm("token_embd_norm", hp.eps, "layer"))


def attended(g: Graph, hp: Encoder, layer: int, x: Value, rope: Rope | None) -> Value:
    """The first half of a block: attention, and a norm behind it."""
    b = f"blk.{layer}."
    q, k, v = qkv(g, hp, layer, x, None)
    a = g.bidirectional_attention(
        q, k, v, heads=hp.heads[layer], kv_heads=hp.kv_heads[layer], head_dim=hp.head_dim, scale=hp.scale, rope=rope
    )
    return g.norm(g.linear(a, b + "attn_output", add=x), Norm(b + "attn_output_norm", hp.eps, "layer"))


def result(g: Graph, hp: Encoder, x: Value) -> Value:
    """The states of the wanted rows, or what the head makes of them."""
    x = g.select_rows(x)
    if not hp.ranks:
        return x
    if not g.has("cls") and not g.has("cls.output"):
        raise ModelError(
            f"{hp.architecture}.pooling_type is {POOLING_RANK} (rank), and the file has no tensor 'cls.weight' or "
            "'cls.output.weight'; convert the model again with a current tool"
        )
    if g.has("cls"):
        x = g.linear(x, "cls", softcap=1.0 if g.has("cls.output") else 0.0)  # the cap is tanh
    return g.linear(x, "cls.output") if g.has("cls.output") else x
