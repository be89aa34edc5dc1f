"""Hyperparameters that most architectures have, believed only after a check."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.models.ropes import Layout, Sections, rope_of
from llamaq.plan.rope import Rope

__all__ = [
    "MAX_HEAD_DIM",
    "Decoder",
    "HParams",
    "block_count",
    "check_feed_forward",
    "head_dim_of",
    "kv_heads_of",
    "read_decoder",
    "vocab_size",
    "windows_of",
]

MAX_HEAD_DIM = 1 << 16  # no model comes near it, and each pair of dimensions costs some 40 us of decimals


@dataclass(frozen=True)
class HParams:
    """What every architecture has."""

    architecture: str
    layers: int
    width: int
    vocab_size: int
    context_length: int

    @property
    def given_cols(self) -> int:
        """Floats of a row that stands in the place of a token."""
        return self.width

    @property
    def has_places(self) -> bool:
        """Whether rows of pictures are turned by their places in them."""
        return False


@dataclass(frozen=True)
class Decoder(HParams):
    """What decoders have; some add their own. ``heads``, ``kv_heads``, ``ropes`` (None: the layer has none) and
    ``windows`` (0: it sees all) have one entry per layer; ``scale`` is that of attention's scores, ``rope`` the one of
    layers that see all."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    head_dim: int
    eps: float
    scale: float
    rope: Rope
    ropes: tuple[Rope | None, ...]
    windows: tuple[int, ...]

    @property
    def has_places(self) -> bool:
        return bool(self.rope.axes)


def read_decoder(
    keys: Keys,
    *,
    layout: Layout,
    norm: Literal["rms", "layer"] = "rms",
    fused_gate: bool = False,
    rope_base: float = 10000.0,
    rope_factor: float = 0.0,
    value_dim: int | None = None,
    least_kv_heads: int = 1,
    sections: Sections | None = None,
    believes_length: bool = True,
) -> Decoder:
    """Every layer alike; what differs between them, the caller replaces. ``layout`` is the rope's, ``norm`` says which
    epsilon is read, ``fused_gate`` that ``ffn_up`` holds the gate, too; ``rope_base`` and ``rope_factor`` are what a
    file without them means; with ``value_dim`` values have so many numbers, and queries become as long as keys later;
    ``least_kv_heads`` is 0 where layers without attention say so; ``sections`` is how the axes of a rope in sections
    follow each other; ``believes_length`` is False where converters wrote another ``feed_forward_length`` than tensors
    have.

    Raises ``ModelError`` for a key that is missing, out of range or contradicted by another one or the tensors.
    """
    layers = block_count(keys)
    width = keys.integer("embedding_length")
    vocabulary = vocab_size(keys, width)
    context = keys.integer("context_length")
    heads = keys.per_layer("attention.head_count", layers)
    kv_heads = kv_heads_of(keys, layers, heads, least_kv_heads)
    head_dim = head_dim_of(keys, width, heads, value_dim)
    eps = keys.positive("attention.layer_norm_rms_epsilon" if norm == "rms" else "attention.layer_norm_epsilon")
    if believes_length:
        check_feed_forward(keys, layers, 2 if fused_gate else 1)
    scale = keys.non_negative("attention.scale", 0.0) or 1 / math.sqrt(head_dim)
    rope = rope_of(keys, head_dim, context, layout=layout, base=rope_base, factor=rope_factor, sections=sections)
    return Decoder(
        keys.architecture, layers, width, vocabulary, context, heads, kv_heads, head_dim, eps, scale, rope,
        (rope,) * layers, (0,) * layers,
    )  # fmt: skip


def block_count(keys: Keys) -> int:
    """How many layers there are; the file's tensors decide. Layers that guess further tokens do not count."""
    drafting = keys.integer("nextn_predict_layers", 0, low=0)
    layers = keys.integer("block_count") - drafting
    numbers = (name.split(".")[1] for name in keys.shapes if name.startswith("blk."))
    # Counted, not the greatest number: one tensor of block 60000000 does not make so many.
    present = len({int(n) for n in numbers if n.isdecimal()})
    if layers != present and layers + drafting != present:
        raise keys.error(
            "block_count", layers + drafting, f"{present}, the number of blocks whose tensors the file has"
        )
    if layers < 1:
        raise keys.error("nextn_predict_layers", drafting, "fewer than there are blocks")
    return layers


def vocab_size(keys: Keys, width: int) -> int:
    """Rows of the embedding table."""
    # The embedding table decides, as in llama.cpp: files with added tokens keep the old vocab_size.
    keys.integer("vocab_size", 1)
    shape = keys.shapes.get("token_embd.weight", ())
    if len(shape) != 2:
        raise ModelError(f"tensor 'token_embd.weight': expected two dimensions, got {shape or 'no such tensor'}")
    if shape[1] != width:
        raise keys.error("embedding_length", width, f"{shape[1]}, the columns of 'token_embd.weight'")
    return shape[0]


def kv_heads_of(keys: Keys, layers: int, heads: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    """KV heads of each layer, which divide its heads."""
    if not keys.has("attention.head_count_kv"):
        return heads
    kv_heads = keys.per_layer("attention.head_count_kv", layers, low=least)
    for h, kv in zip(heads, kv_heads, strict=True):
        if kv and h % kv:
            raise keys.error("attention.head_count_kv", kv, f"a divisor of the {h} heads (attention.head_count)")
    return kv_heads


def head_dim_of(keys: Keys, width: int, heads: tuple[int, ...], values: int | None = None) -> int:
    """Dimensions of a head, of keys and values alike; the rows of the queries' weight bound them."""
    if not keys.has("attention.key_length") and width % heads[0]:
        raise keys.error("attention.head_count", heads[0], f"a divisor of embedding_length ({width})")
    head_dim = keys.integer("attention.key_length", width // heads[0], high=MAX_HEAD_DIM)
    queries = keys.shapes.get("blk.0.attn_q.weight", ())
    if values is None and len(queries) == 2 and queries[0] != heads[0] * head_dim:
        raise keys.error(
            "attention.key_length", head_dim, f"the {queries[0]} rows of 'blk.0.attn_q.weight' / {heads[0]} heads"
        )
    expected = head_dim if values is None else values
    value_dim = keys.integer("attention.value_length", expected)
    if value_dim != expected:
        raise keys.error(
            "attention.value_length",
            value_dim,
            f"{expected} as key_length; different lengths are not supported yet" if values is None else f"{expected}",
        )
    return head_dim


def check_feed_forward(keys: Keys, layers: int, matrices: int = 1) -> None:
    """Raises where the tensors contradict feed_forward_length; ``ffn_up`` holds so many matrices."""
    if not keys.has("feed_forward_length"):
        return
    for i, length in enumerate(keys.per_layer("feed_forward_length", layers, low=0)):
        shape = keys.shapes.get(f"blk.{i}.ffn_up.weight", ())
        if len(shape) == 2 and shape[0] != length * matrices:
            rows = f"{shape[0] / matrices:g}, the rows of 'blk.{i}.ffn_up.weight'"
            raise keys.error("feed_forward_length", length, rows if matrices == 1 else f"{rows} / {matrices}")


def windows_of(keys: Keys, layers: int, *, size: int = 0, period: int) -> tuple[int, ...]:
    """The window of each layer: ``attention.sliding_window`` tokens (``size`` where the file does not say), or 0. Where
    it has no pattern, the last of every ``period`` layers sees all."""
    window = keys.integer("attention.sliding_window", size, low=0)
    pattern = keys.flags("attention.sliding_window_pattern", layers)
    if isinstance(pattern, tuple):
        return tuple(window if windowed else 0 for windowed in pattern)
    period = period if pattern is None else pattern
    return tuple(window if period == 0 or i % period < period - 1 else 0 for i in range(layers))
