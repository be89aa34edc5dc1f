"""Bounds of numbers, in the words that llguidance reads rightly."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

__all__ = ["bounded"]

_STEP = 1e-9  # distance from a bound that is excluded


def bounded(limits: dict[str, Any]) -> dict[str, Any]:
    """The keywords for numbers between ``limits`` (minimum, maximum and those that are excluded).

    llguidance asks for as many digits as the far bound has where a number begins like it: of 0.1 to 0.25 it takes
    0.20 and not 0.2. What it leaves out are the bound's own beginnings, which become alternatives. And it takes a
    whole number that is excluded where the other bound is less than 1 away.
    """
    limits = dict(limits)
    low = limits.get("exclusiveMinimum", limits.get("minimum"))
    high = limits.get("exclusiveMaximum", limits.get("maximum"))
    if low is not None and high is not None:
        if "exclusiveMinimum" in limits and low == int(low) and 0 <= low < high < low + 1:
            limits["minimum"] = limits.pop("exclusiveMinimum") + _STEP
        if "exclusiveMaximum" in limits and high == int(high) and high - 1 < low < high <= 0:
            limits["maximum"] = limits.pop("exclusiveMaximum") - _STEP
    beginnings = [x for x in _beginnings(high) if x > 0 and (low is None or x > low)]
    beginnings += [x for x in _beginnings(low) if x < 0 and (high is None or x < high)]
    if not beginnings:
        return limits
    return {"anyOf": [limits, *({"minimum": x, "maximum": x} for x in beginnings)]}


def _beginnings(bound: float | None) -> list[float]:
    """A bound with fewer digits after the point, but one at least."""
    if bound is None:
        return []
    exact = Decimal(repr(float(bound)))
    digits = -int(exact.as_tuple().exponent)
    return [float(exact.quantize(Decimal(1).scaleb(-n), rounding=ROUND_DOWN)) for n in range(1, digits)]
