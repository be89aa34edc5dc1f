"""Rotary positions as files describe them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.rope import Rope, YaRN, make_rope

__all__ = ["ROPE_TENSORS", "Layout", "Sections", "local_rope_of", "rope_of"]

Layout: TypeAlias = Literal["norm", "neox"]
Sections: TypeAlias = Literal["apart", "interleaved"]
"""How pairs that turn by time, row and column stand: one section after the other, or in turn."""

ROPE_FREQS, ROPE_LONG, ROPE_SHORT = ROPE_TENSORS = (
    "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
)  # fmt: skip
"""Tensors whose numbers divide frequencies: always, or those of a longrope in a long or a short context."""


def rope_of(
    keys: Keys, head_dim: int, context_length: int, *, layout: Layout, base: float = 10000.0, factor: float = 0.0,
    sections: Sections | None = None,
) -> Rope:  # fmt: skip
    """The rope of layers that see all; ``layout`` is the architecture's ("neox" for all but llama and its nearest),
    ``base`` and ``factor`` (0: none) are what a file without them means. Without ``sections`` a file's are checked, but
    all pairs turn by the position."""
    dims = _dims(keys, "rope.dimension_count", head_dim, head_dim)
    axes: tuple[int, ...] = ()
    if keys.has("rope.dimension_sections"):
        lengths = _sections(keys, dims)
        axes = _axes(lengths, dims // 2, sections) if sections else ()
    base = _base(keys, "rope.freq_base", base)
    factor, yarn = _scaling(keys, context_length, factor)
    attention_factor = keys.positive("rope.scaling.attn_factor", 1.0)
    divisors = _divisors(keys, dims, context_length)
    rope = make_rope(
        dims, base, factor=factor, yarn=yarn, attention_factor=attention_factor, divisors=divisors, layout=layout
    )
    return replace(rope, axes=axes)


def local_rope_of(keys: Keys, head_dim: int, *, layout: Layout, base: float) -> Rope:
    """The rope of layers with windows, which is never scaled; ``base`` is the architecture's, where a file has none."""
    usual = min(keys.integer("rope.dimension_count", head_dim), head_dim)
    dims = _dims(keys, "rope.dimension_count_swa", usual, head_dim)
    return make_rope(dims, _base(keys, "rope.freq_base_swa", base), layout=layout)


def _dims(keys: Keys, key: str, default: int, head_dim: int) -> int:
    dims = keys.integer(key, default)
    if dims % 2 or dims > head_dim:
        raise keys.error(key, dims, f"an even number up to {head_dim} (the length of a head)")
    return dims


def _sections(keys: Keys, dims: int) -> tuple[int, ...]:
    """Pairs in sections turn by positions in time, rows and columns of images, which are all the same for text."""
    count = 3 if keys.count("rope.dimension_sections") == 3 else 4  # ollama's files have the three that count
    sections = keys.per_layer("rope.dimension_sections", count, low=0)
    if sum(sections[:3]) < dims // 2:
        raise keys.error("rope.dimension_sections", list(sections), f"sections for all {dims // 2} pairs")
    return sections[:3]


def _axes(lengths: tuple[int, ...], pairs: int, sections: Sections) -> tuple[int, ...]:
    """What each pair turns by. In turn, rows and columns have every third pair up to their length, and time the rest,
    as in transformers; llama.cpp does not turn what is left over behind them."""
    if sections == "apart":
        ends = (lengths[0], lengths[0] + lengths[1])
        return tuple(sum(pair >= end for end in ends) for pair in range(pairs))
    return tuple(axis if pair < 3 * lengths[axis := pair % 3] else 0 for pair in range(pairs))


def _base(keys: Keys, key: str, default: float) -> float:
    base = keys.positive(key, default)
    if base <= 1.0:
        raise keys.error(key, base, "a number greater than 1")
    return base


def _scaling(keys: Keys, context_length: int, default: float) -> tuple[float, YaRN | None]:
    kind = keys.string("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise keys.error("rope.scaling.type", kind, "one of none, linear, yarn, longrope")
    if kind == "longrope" and not {ROPE_LONG, ROPE_SHORT} <= {*keys.shapes}:
        raise keys.error("rope.scaling.type", kind, f"the tensors {ROPE_LONG} and {ROPE_SHORT} with it")
    old = keys.non_negative("rope.scale_linear", default)  # the key's name before 2023-11
    factor = keys.non_negative("rope.scaling.factor", old)
    factor = 1.0 if factor == 0.0 or kind == "none" else factor
    if kind != "yarn":
        return factor, None
    yarn = YaRN(
        _original_context(keys, context_length),
        keys.positive("rope.scaling.yarn_beta_fast", 32.0),
        keys.positive("rope.scaling.yarn_beta_slow", 1.0),
        keys.non_negative("rope.scaling.yarn_ext_factor", 1.0),
        keys.non_negative("rope.scaling.yarn_log_multiplier", 0.0),
    )
    if yarn.beta_slow > yarn.beta_fast:
        raise keys.error("rope.scaling.yarn_beta_slow", yarn.beta_slow, f"at most yarn_beta_fast ({yarn.beta_fast})")
    return factor, yarn


def _original_context(keys: Keys, context_length: int) -> int:
    return keys.integer("rope.scaling.original_context_length", context_length)


def _divisors(keys: Keys, dims: int, context_length: int) -> list[float] | None:
    """Those of the file. Of a longrope the context that the model runs with decides, so that a text's answer does not
    change with its length."""
    name = ROPE_FREQS
    if name not in keys.vectors:
        is_long = (keys.n_ctx or context_length) > _original_context(keys, context_length)
        name = ROPE_LONG if is_long else ROPE_SHORT
    return _checked(name, keys.vectors[name], dims) if name in keys.vectors else None


def _checked(name: str, numbers: Sequence[float], dims: int) -> list[float]:
    divisors = [float(d) for d in numbers]
    if len(divisors) != dims // 2 or not all(math.isfinite(d) and d > 0.0 for d in divisors):
        raise ModelError(f"tensor {name!r}: expected {dims // 2} positive numbers (one for each pair)")
    return divisors
