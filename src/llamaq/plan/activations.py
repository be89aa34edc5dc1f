"""Activations in NumPy, with the bits of docs/numerics.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from llamaq.plan.arithmetic import exp32, fma32, tanh32
from llamaq.plan.op import F32

__all__ = ["ACTIVATIONS", "GATED", "Activation", "softcap"]

Activation = Literal["silu", "gelu", "gelu_erf", "sigmoid", "clamped", "relu2", "gelu_quick"]

_ERFC = (0.5307027145, -0.7265760135, 0.7107068705, -0.142248368, 0.127414796)
_ONE = np.float32(1)


def _polynomial(x: F32, coefficients: tuple[float, ...]) -> F32:
    total: F32 = np.full_like(x, np.float32(coefficients[0]))
    for c in coefficients[1:]:
        total = fma32(total, x, np.float32(c))
    return total


def softcap(x: F32, cap: float) -> F32:
    """``cap * tanh(x / cap)``."""
    with np.errstate(all="ignore"):
        return np.asarray(np.float32(cap) * tanh32(x / np.float32(cap)))


def _silu(x: F32) -> F32:
    return np.asarray(x / (_ONE + exp32(-x)))


def _sigmoid(x: F32) -> F32:
    return np.asarray(_ONE / (_ONE + exp32(-x)))


def _gelu(x: F32) -> F32:
    twice = x * fma32(x * x, np.float32(0.0713548162726), np.float32(1.5957691216))
    return np.asarray(x / (_ONE + exp32(-twice)))


def _gelu_erf(x: F32) -> F32:
    t = _ONE / fma32(abs(x), np.float32(0.231641888), _ONE)
    rest = (_polynomial(t, _ERFC) * t) * exp32((x * x) * np.float32(-0.5))
    return np.asarray(x * np.where(x < 0, rest, _ONE - rest))


def _gelu_quick(x: F32) -> F32:
    return np.asarray(x / (_ONE + exp32(-(x * np.float32(1.702)))))


def _relu2(x: F32) -> F32:
    r = np.where(x < 0, np.float32(0), x)
    return np.asarray(r * r)


def _clamped(gate: F32, up: F32) -> F32:
    g, u = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
    return np.asarray((g / (_ONE + exp32(-(g * np.float32(1.702))))) * (u + _ONE))


ACTIVATIONS: Mapping[Activation, Callable[[F32], F32]] = {
    "silu": _silu, "gelu": _gelu, "gelu_erf": _gelu_erf, "sigmoid": _sigmoid, "relu2": _relu2,
    "gelu_quick": _gelu_quick,
}  # fmt: skip
"""Of rows. "gelu" is the form with tanh, "gelu_quick" that with the logistic function."""


def _gated(activation: Callable[[F32], F32]) -> Callable[[F32, F32], F32]:
    return lambda gate, up: activation(gate) * up


GATED: Mapping[Activation, Callable[[F32, F32], F32]] = {
    **{name: _gated(function) for name, function in ACTIVATIONS.items()},
    "clamped": _clamped,
}
"""Of rows of a gate, which then multiplies those of another matrix."""
