"""Hyperparameters of a model, read from GGUF metadata and believed only after a check.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; defaults are llama.cpp's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.rope import Rope, YaRN, make_rope

__all__ = ["MAX_HEAD_DIM", "ROPE_FREQS", "HParams", "read_hparams"]

ROPE_FREQS = "rope_freqs.weight"
MAX_HEAD_DIM = 1 << 16  # no model comes near it, and each pair of dimensions costs some 40 us of decimals

_INT_MAX = 2**31 - 1
_MISSING: Any = object()


@dataclass(frozen=True)
class HParams:
    """What an architecture function needs beside the tensors' shapes; tuples have one entry per layer."""

    architecture: str
    layers: int
    width: int
    vocab_size: int
    context_length: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    head_dim: int
    eps: float
    rope: Rope


class _Keys:
    """Typed, range-checked access to the keys of one architecture; every complaint is a ModelError."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self._metadata = metadata
        self._prefix = f"{architecture}."

    def error(self, key: str, value: object, expected: str) -> ModelError:
        return ModelError(f"{self._prefix}{key} is {value!r}; expected {expected}")

    def has(self, key: str) -> bool:
        return self._prefix + key in self._metadata

    def _get(self, key: str, default: Any) -> Any:
        value = self._metadata.get(self._prefix + key, default)
        if value is _MISSING:
            raise ModelError(f"the file lacks the key {self._prefix}{key}; convert the model again with a current tool")
        return value

    def integer(self, key: str, default: Any = _MISSING, *, low: int = 1, high: int = _INT_MAX) -> int:
        return self._checked_integer(key, self._get(key, default), low, high)

    def _checked_integer(self, key: str, value: Any, low: int, high: int) -> int:
        if not _is_integer(value) or not low <= value <= high:
            raise self.error(key, value, f"an integer from {low} to {high}")
        return int(value)

    def per_layer(self, key: str, layers: int, default: Any = _MISSING) -> tuple[int, ...]:
        """One integer for all layers, or an array with one for each."""
        value = self._get(key, default)
        if not hasattr(value, "__len__") or isinstance(value, str):
            return (self._checked_integer(key, value, 1, _INT_MAX),) * layers
        if len(value) != layers:
            raise self.error(key, f"an array of {len(value)}", f"one integer, or {layers} (one for each block)")
        return tuple(self._checked_integer(key, v, 1, _INT_MAX) for v in value)

    def positive(self, key: str, default: Any = _MISSING) -> float:
        value = self._number(key, default)
        if value <= 0.0:
            raise self.error(key, value, "a positive number")
        return value

    def _number(self, key: str, default: Any) -> float:
        value = self._get(key, default)
        if not (_is_integer(value) or isinstance(value, float | np.floating)) or not math.isfinite(value):
            raise self.error(key, value, "a finite number")
        return float(value)

    def non_negative(self, key: str, default: float) -> float:
        value = self._number(key, default)
        if value < 0.0:
            raise self.error(key, value, "a number that is not negative")
        return value

    def string(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def read_hparams(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    architecture: str = "llama",
    rope_freqs: Sequence[float] | None = None,
) -> HParams:
    """Hyperparameters of a llama-like model.

    ``shapes`` maps full tensor names to shapes, rows first; ``rope_freqs`` is the content of the tensor
    ``rope_freqs.weight`` where the file has it. Raises ``ModelError`` for a key that is missing, out of
    range or contradicted by another key or by the tensors.
    """
    keys = _Keys(metadata, architecture)
    if keys.integer("expert_count", 0, low=0) > 0:
        raise keys.error("expert_count", keys.integer("expert_count"), "0: mixture of experts is not supported yet")
    layers = _block_count(keys, shapes)
    width = keys.integer("embedding_length")
    vocab_size = _vocab_size(keys, shapes, width)
    context_length = keys.integer("context_length")
    heads = keys.per_layer("attention.head_count", layers)
    kv_heads = _kv_heads(keys, layers, heads)
    head_dim = _head_dim(keys, shapes, width, heads)
    eps = keys.positive("attention.layer_norm_rms_epsilon")
    _check_feed_forward(keys, shapes, layers)
    rope = _rope(keys, head_dim, context_length, rope_freqs)
    return HParams(architecture, layers, width, vocab_size, context_length, heads, kv_heads, head_dim, eps, rope)


def _block_count(keys: _Keys, shapes: Mapping[str, tuple[int, ...]]) -> int:
    layers = keys.integer("block_count")
    numbers = (name.split(".")[1] for name in shapes if name.startswith("blk."))
    # Counted, not the greatest number: one tensor of block 60000000 does not make so many.
    present = len({int(n) for n in numbers if n.isdecimal()})
    if layers != present:
        raise keys.error("block_count", layers, f"{present}, the number of blocks whose tensors the file has")
    return layers


def _vocab_size(keys: _Keys, shapes: Mapping[str, tuple[int, ...]], width: int) -> int:
    # The embedding table decides, as in llama.cpp: files with added tokens keep the old vocab_size.
    keys.integer("vocab_size", 1)
    shape = shapes.get("token_embd.weight", ())
    if len(shape) != 2:
        raise ModelError(f"tensor 'token_embd.weight': expected two dimensions, got {shape or 'no such tensor'}")
    if shape[1] != width:
        raise keys.error("embedding_length", width, f"{shape[1]}, the columns of 'token_embd.weight'")
    return shape[0]


def _kv_heads(keys: _Keys, layers: int, heads: tuple[int, ...]) -> tuple[int, ...]:
    if not keys.has("attention.head_count_kv"):
        return heads
    kv_heads = keys.per_layer("attention.head_count_kv", layers)
    for h, kv in zip(heads, kv_heads, strict=True):
        if h % kv:
            raise keys.error("attention.head_count_kv", kv, f"a divisor of the {h} heads (attention.head_count)")
    return kv_heads


def _head_dim(keys: _Keys, shapes: Mapping[str, tuple[int, ...]], width: int, heads: tuple[int, ...]) -> int:
    if not keys.has("attention.key_length") and width % heads[0]:
        raise keys.error("attention.head_count", heads[0], f"a divisor of embedding_length ({width})")
    head_dim = keys.integer("attention.key_length", width // heads[0], high=MAX_HEAD_DIM)
    queries = shapes.get("blk.0.attn_q.weight", ())
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


def _check_feed_forward(keys: _Keys, shapes: Mapping[str, tuple[int, ...]], layers: int) -> None:
    if not keys.has("feed_forward_length"):
        return
    for i, length in enumerate(keys.per_layer("feed_forward_length", layers)):
        shape = shapes.get(f"blk.{i}.ffn_up.weight", ())
        if len(shape) == 2 and shape[0] != length:
            raise keys.error("feed_forward_length", length, f"{shape[0]}, the rows of 'blk.{i}.ffn_up.weight'")


def _rope(keys: _Keys, head_dim: int, context_length: int, rope_freqs: Sequence[float] | None) -> Rope:
    dims = keys.integer("rope.dimension_count", head_dim)
    if dims % 2 or dims > head_dim:
        raise keys.error("rope.dimension_count", dims, f"an even number up to {head_dim} (the length of a head)")
    base = keys.positive("rope.freq_base", 10000.0)
    if base <= 1.0:
        raise keys.error("rope.freq_base", base, "a number greater than 1")
    factor, yarn = _scaling(keys, context_length)
    attention_factor = keys.positive("rope.scaling.attn_factor", 1.0)
    divisors = None if rope_freqs is None else _divisors(rope_freqs, dims)
    return make_rope(dims, base, factor=factor, yarn=yarn, attention_factor=attention_factor, divisors=divisors)


def _scaling(keys: _Keys, context_length: int) -> tuple[float, YaRN | None]:
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
