"""Hyperparameters that most architectures have, believed only after a check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.rope import Rope, YaRN, make_rope

__all__ = [
    "MAX_HEAD_DIM",
    "ROPE_FREQS",
    "HParams",
    "block_count",
    "check_feed_forward",
    "head_dim_of",
    "kv_heads_of",
    "rope_of",
    "vocab_size",
]

ROPE_FREQS = "rope_freqs.weight"
MAX_HEAD_DIM = 1 << 16  # no model comes near it, and each pair of dimensions costs some 40 us of decimals


@dataclass(frozen=True)
class HParams:
    """What every architecture has; each adds its own."""

    architecture: str
    layers: int
    width: int
    vocab_size: int
    context_length: int


def block_count(keys: Keys) -> int:
    """How many layers there are; the file's tensors decide."""
    layers = keys.integer("block_count")
    numbers = (name.split(".")[1] for name in keys.shapes if name.startswith("blk."))
    # Counted, not the greatest number: one tensor of block 60000000 does not make so many.
    present = len({int(n) for n in numbers if n.isdecimal()})
    if layers != present:
        raise keys.error("block_count", layers, f"{present}, the number of blocks whose tensors the file has")
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


def kv_heads_of(keys: Keys, layers: int, heads: tuple[int, ...]) -> tuple[int, ...]:
    """KV heads of each layer, which divide its heads."""
    if not keys.has("attention.head_count_kv"):
        return heads
    kv_heads = keys.per_layer("attention.head_count_kv", layers)
    for h, kv in zip(heads, kv_heads, strict=True):
        if h % kv:
            raise keys.error("attention.head_count_kv", kv, f"a divisor of the {h} heads (attention.head_count)")
    return kv_heads


def head_dim_of(keys: Keys, width: int, heads: tuple[int, ...]) -> int:
    """Dimensions of a head, of keys and values alike; the rows of the queries' weight bound them."""
    if not keys.has("attention.key_length") and width % heads[0]:
        raise keys.error("attention.head_count", heads[0], f"a divisor of embedding_length ({width})")
    head_dim = keys.integer("attention.key_length", width // heads[0], high=MAX_HEAD_DIM)
    queries = keys.shapes.get("blk.0.attn_q.weight", ())
    if len(queries) == 2 and queries[0] != heads[0] * head_dim:
        raise keys.error(
            "attention.key_length", head_dim, f"the {queries[0]} rows of 'blk.0.attn_q.weight' / {heads[0]} heads"
        )
    value_dim = keys.integer("attention.value_length", head_dim)
    if value_dim != head_dim:
        raise keys.error(
            "attention.value_length",
            value_dim,
            f"{head_dim} as key_length; different lengths are not supported yet",
        )
    return head_dim


def check_feed_forward(keys: Keys, layers: int) -> None:
    """Raises where the tensors contradict feed_forward_length."""
    if not keys.has("feed_forward_length"):
        return
    for i, length in enumerate(keys.per_layer("feed_forward_length", layers)):
        shape = keys.shapes.get(f"blk.{i}.ffn_up.weight", ())
        if len(shape) == 2 and shape[0] != length:
            raise keys.error("feed_forward_length", length, f"{shape[0]}, the rows of 'blk.{i}.ffn_up.weight'")


def rope_of(keys: Keys, head_dim: int, context_length: int, *, layout: Literal["norm", "neox"]) -> Rope:
    """The rope that all layers share; ``layout`` is the architecture's ("neox" for all but llama and its nearest)."""
    dims = keys.integer("rope.dimension_count", head_dim)
    if dims % 2 or dims > head_dim:
        raise keys.error("rope.dimension_count", dims, f"an even number up to {head_dim} (the length of a head)")
    base = keys.positive("rope.freq_base", 10000.0)
    if base <= 1.0:
        raise keys.error("rope.freq_base", base, "a number greater than 1")
    factor, yarn = _scaling(keys, context_length)
    attention_factor = keys.positive("rope.scaling.attn_factor", 1.0)
    divisors = None if keys.rope_freqs is None else _divisors(keys.rope_freqs, dims)
    return make_rope(
        dims, base, factor=factor, yarn=yarn, attention_factor=attention_factor, divisors=divisors, layout=layout
    )


def _scaling(keys: Keys, context_length: int) -> tuple[float, YaRN | None]:
    kind = keys.string("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        raise keys.error("rope.scaling.type", kind, "one of none, linear, yarn")
    old = keys.non_negative("rope.scale_linear", 0.0)  # the key's name before 2023-11
    factor = keys.non_negative("rope.scaling.factor", old)
    factor = 1.0 if factor == 0.0 or kind == "none" else factor
    if kind != "yarn":
        return factor, None
    yarn = YaRN(
        keys.integer("rope.scaling.original_context_length", context_length),
        keys.positive("rope.scaling.yarn_beta_fast", 32.0),
        keys.positive("rope.scaling.yarn_beta_slow", 1.0),
        keys.non_negative("rope.scaling.yarn_ext_factor", 1.0),
        keys.non_negative("rope.scaling.yarn_log_multiplier", 0.0),
    )
    if yarn.beta_slow > yarn.beta_fast:
        raise keys.error("rope.scaling.yarn_beta_slow", yarn.beta_slow, f"at most yarn_beta_fast ({yarn.beta_fast})")
    return factor, yarn


def _divisors(rope_freqs: Sequence[float], dims: int) -> list[float]:
    divisors = [float(d) for d in rope_freqs]
    if len(divisors) != dims // 2 or not all(math.isfinite(d) and d > 0.0 for d in divisors):
        raise ModelError(f"tensor {ROPE_FREQS!r}: expected {dims // 2} positive numbers (one for each pair)")
    return divisors
