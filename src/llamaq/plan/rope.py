"""Rotary positions: the angle by which each pair of dimensions turns per token.

Frequencies are computed with 50 decimal digits and rounded once, so that they are the same on every
machine (docs/numerics.md). Sources: Su et al., "RoFormer" (2021); Peng et al., "YaRN" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from typing import Literal

__all__ = ["Rope", "YaRN", "make_rope"]

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")
_TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Rope:
    """``frequencies`` in radians per token, one for each pair; cos and sin are times ``attention_factor``.

    ``layout`` "norm" turns the neighbours (2i, 2i + 1), "neox" turns (i, i + dims / 2). ``axes`` say for each pair
    which of a row's places it turns by, 0 (time), 1 (row) or 2 (column); without any, all turn by its position.
    """

    frequencies: tuple[float, ...]
    attention_factor: float = 1.0
    layout: Literal["norm", "neox"] = "norm"
    axes: tuple[int, ...] = ()

    @property
    def dims(self) -> int:
        """Dimensions of a head that are turned; the others stay."""
        return 2 * len(self.frequencies)

    def __str__(self) -> str:
        return f"Rope({self.dims} dims, {self.layout})"


@dataclass(frozen=True)
class YaRN:
    """Interpolate slow pairs, keep fast ones, blend between.

    A pair is fast when it turns more than ``beta_fast`` times within ``original_context`` tokens, slow
    below ``beta_slow``. ``extrapolation`` scales the share of the unscaled frequency. ``log_multiplier``
    is llama.cpp's rope.scaling.yarn_log_multiplier (DeepSeek's ``mscale_all_dim``).
    """

    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    extrapolation: float = 1.0
    log_multiplier: float = 0.0


def make_rope(
    dims: int,
    base: float,
    *,
    factor: float = 1.0,
    yarn: YaRN | None = None,
    attention_factor: float = 1.0,
    divisors: Sequence[float] | None = None,
    layout: Literal["norm", "neox"] = "norm",
) -> Rope:
    """Rope of ``dims`` dimensions with the frequencies ``base ** (-2i / dims)``, scaled.

    ``factor`` stretches positions (2.0: twice the context), for all pairs alike or as ``yarn`` says.
    ``divisors`` divide each pair's frequency on top (the tensor ``rope_freqs.weight`` of Llama 3.1).
    The caller has checked the ranges: even dims, base > 1, factor and divisors positive.
    """
    with localcontext(Context(prec=50)):
        log_base = Decimal(base).ln()
        frequencies = [(Decimal(-2 * i) / dims * log_base).exp() for i in range(dims // 2)]
        if divisors is not None:
            frequencies = [f / Decimal(float(d)) for f, d in zip(frequencies, divisors, strict=True)]
        stretched = [f / Decimal(factor) for f in frequencies]
        magnitude = Decimal(attention_factor)
        if yarn is not None and yarn.extrapolation != 0.0:
            kept = _kept_shares(dims, log_base, yarn)
            stretched = [s * (1 - w) + f * w for s, f, w in zip(stretched, frequencies, kept, strict=True)]
            magnitude *= _magnitude(factor, 1.0) / _magnitude(factor, yarn.log_multiplier)
        return Rope(tuple(map(float, stretched)), float(magnitude), layout)


def _kept_shares(dims: int, log_base: Decimal, yarn: YaRN) -> list[Decimal]:
    """For each pair the share of its unscaled frequency: 1 for fast pairs, 0 for slow ones."""

    def pair_with(turns: float) -> Decimal:
        tokens_per_radian = Decimal(yarn.original_context) / (2 * _PI * Decimal(turns))
        return dims * tokens_per_radian.ln() / (2 * log_base)

    low = max(Decimal(0), pair_with(yarn.beta_fast).to_integral_value(ROUND_FLOOR))
    high = min(Decimal(dims - 1), pair_with(yarn.beta_slow).to_integral_value(ROUND_CEILING))
    width = max(Decimal("0.001"), high - low)
    ramp = [min(Decimal(1), max(Decimal(0), (i - low) / width)) for i in range(dims // 2)]
    return [(1 - r) * Decimal(yarn.extrapolation) for r in ramp]


def _magnitude(factor: float, multiplier: float) -> Decimal:
    """YaRN's softening of attention: 1 + 0.1 * multiplier * ln(factor), 1 where nothing is stretched."""
    if factor <= 1.0:
        return Decimal(1)
    return 1 + _TENTH * Decimal(multiplier) * Decimal(factor).ln()
