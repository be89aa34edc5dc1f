"""Single precision by exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["exact_fma", "round_to_f32"]


def round_to_f32(x: Fraction) -> float:
    """x rounded to binary32, ties to even, in integers only; +0 for 0."""
    if x == 0:
        return 0.0
    size = abs(x)
    exponent = math.floor(math.log2(size.numerator) - math.log2(size.denominator)) - 1
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** max(exponent - 23, -149)
    quotient, rest = divmod(size, unit)
    if rest * 2 > unit or (rest * 2 == unit and quotient % 2):
        quotient += 1
    value = quotient * unit
    rounded = math.inf if value >= Fraction(2) ** 128 else float(value)
    return math.copysign(rounded, x)


def exact_fma(a: float, b: float, c: float) -> float:
    return round_to_f32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
