"""What a file says of its architecture, read by type and range.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; defaults are llama.cpp's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llamaq.errors import ModelError

__all__ = ["Keys"]

_INT_MAX = 2**31 - 1
_MISSING: Any = object()


class Keys:
    """Typed, range-checked access to the keys of one architecture; every complaint is a ModelError.

    ``shapes`` maps full tensor names to shapes, rows first; ``rope_freqs`` is the content of the tensor
    ``rope_freqs.weight`` where the file has it.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        architecture: str,
        rope_freqs: Sequence[float] | None = None,
    ) -> None:
        self.shapes = shapes
        self.architecture = architecture
        self.rope_freqs = rope_freqs
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

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool | np.bool_):
            raise self.error(key, value, "true or false")
        return bool(value)

    def string(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
