"""What a file says of its architecture, read by type and range.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; defaults are llama.cpp's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llamaq.errors import ModelError

__all__ = ["POOLING_RANK", "Keys"]

POOLING_RANK = 4
"""The ``pooling_type`` of models that rank."""

_INT_MAX = 2**31 - 1
_MISSING: Any = object()


class Keys:
    """Typed, range-checked access to the keys of one architecture; every complaint is a ModelError.

    ``shapes`` maps full tensor names to shapes, rows first; ``vectors`` has the content of those that the plan needs
    (``ROPE_TENSORS``). ``n_ctx`` is the context that the model will run with. ``old`` says for keys that a file lacks
    what old converters called them (a name), or what they left out (a number, or several).
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        architecture: str,
        vectors: Mapping[str, Sequence[float]] | None = None,
        n_ctx: int | None = None,
        old: Mapping[str, str | float | Sequence[int]] | None = None,
    ) -> None:
        self.shapes = shapes
        self.architecture = architecture
        self.vectors = vectors or {}
        self.n_ctx = n_ctx
        self._old = old or {}
        self._metadata = metadata
        self._prefix = f"{architecture}."

    def without(self, old: Mapping[str, str | float | Sequence[int]]) -> Keys:
        """The same keys, of a converter that left out these, too."""
        return Keys(self._metadata, self.shapes, self.architecture, self.vectors, self.n_ctx, {**self._old, **old})

    def error(self, key: str, value: object, expected: str) -> ModelError:
        return ModelError(f"{self._prefix}{key} is {value!r}; expected {expected}")

    def has(self, key: str) -> bool:
        return self._find(key) is not _MISSING

    def _find(self, key: str) -> Any:
        found = self._metadata.get(self._prefix + key, _MISSING)
        if found is _MISSING and (old := self._old.get(key)) is not None:
            return self._metadata.get(self._prefix + old, _MISSING) if isinstance(old, str) else old
        return found

    def _get(self, key: str, default: Any) -> Any:
        value = self._find(key)
        value = default if value is _MISSING else value
        if value is _MISSING:
            raise ModelError(f"the file lacks the key {self._prefix}{key}; convert the model again with a current tool")
        return value

    def integer(self, key: str, default: Any = _MISSING, *, low: int = 1, high: int = _INT_MAX) -> int:
        return self._checked_integer(key, self._get(key, default), low, high)

    def _checked_integer(self, key: str, value: Any, low: int, high: int) -> int:
        if not _is_integer(value) or not low <= value <= high:
            raise self.error(key, value, f"an integer from {low} to {high}")
        return int(value)

    def count(self, key: str) -> int:
        """Entries of an array, 1 for what is none, 0 where the file has nothing."""
        value = self._find(key)
        if value is _MISSING:
            return 0
        return len(value) if hasattr(value, "__len__") and not isinstance(value, str) else 1

    def integers(self, key: str, *, low: int, high: int) -> tuple[int, ...]:
        """An array of integers of that range, one at least."""
        value = self._get(key, _MISSING)
        if not hasattr(value, "__len__") or isinstance(value, str) or not len(value):
            raise self.error(key, value, "an array of integers")
        return tuple(self._checked_integer(key, v, low, high) for v in value)

    def per_layer(self, key: str, layers: int, default: Any = _MISSING, *, low: int = 1) -> tuple[int, ...]:
        """One integer for all layers, or an array with one for each; blocks that guess may have theirs behind them."""
        value = self._get(key, default)
        if not hasattr(value, "__len__") or isinstance(value, str):
            return (self._checked_integer(key, value, low, _INT_MAX),) * layers
        if len(value) not in (layers, layers + self.integer("nextn_predict_layers", 0, low=0)):
            raise self.error(key, f"an array of {len(value)}", f"one integer, or {layers} (one for each block)")
        return tuple(self._checked_integer(key, v, low, _INT_MAX) for v in value[:layers])

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

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """An array of so many finite numbers."""
        value = self._get(key, _MISSING)
        found = list(value) if hasattr(value, "__len__") and not isinstance(value, str) else []
        if len(found) != count or not all(isinstance(v, float | np.floating) and math.isfinite(v) for v in found):
            raise self.error(key, value, f"an array of {count} finite numbers")
        return tuple(float(v) for v in found)

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool | np.bool_):
            raise self.error(key, value, "true or false")
        return bool(value)

    def flags(self, key: str, layers: int) -> tuple[bool, ...] | int | None:
        """A flag for each layer, or a number that stands for them; None where the file has neither."""
        value = self._get(key, None)
        if value is None or _is_integer(value):
            return None if value is None else self._checked_integer(key, value, 0, _INT_MAX)
        flags = list(value) if hasattr(value, "__len__") and not isinstance(value, str) else []
        if len(flags) == layers + self.integer("nextn_predict_layers", 0, low=0):  # blocks behind the last have some
            flags = flags[:layers]
        if len(flags) != layers or not all(isinstance(v, bool | np.bool_) for v in flags):
            raise self.error(key, value, f"an integer, or {layers} flags (one for each block)")
        return tuple(bool(v) for v in flags)

    def token(self, role: str, default: int) -> int:
        """The id of a token with a role, such as "eos"."""
        key = f"tokenizer.ggml.{role}_token_id"
        value = self._metadata.get(key, default)
        if not _is_integer(value) or not 0 <= value <= _INT_MAX:
            raise ModelError(f"{key} is {value!r}; expected the id of a token")
        return int(value)

    def string(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
