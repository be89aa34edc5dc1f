"""What ops are made of: weights, norms, values, and the layers of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["CacheLayer", "HeadNorm", "Norm", "Role", "StateLayer", "Temperature", "Value", "Weight"]

Role = Literal["matrix", "stack", "vector", "table"]


@dataclass(frozen=True)
class Weight:
    """A tensor of the file as an op reads it: a ``matrix`` to multiply with, a ``stack`` of them (one for each expert),
    a ``vector`` of floats (or one for each expert), or a ``table`` of rows to look up. ``rows`` (begin, end) are those
    of a fused tensor, in a stack of each of its matrices."""

    name: str
    role: Role
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.name if self.rows is None else f"{self.name}[{self.rows[0]}:{self.rows[1]}]"


@dataclass(frozen=True)
class Norm:
    """Norm of rows: "rms" divides them by the root of their mean square plus ``eps``, "layer" takes their mean away
    first. Then they are times ``weight``, plus ``bias``, where there are such."""

    weight: str | None
    eps: float
    kind: Literal["rms", "layer"] = "rms"
    bias: str | None = None

    def __str__(self) -> str:
        return self.weight or self.kind

    def reads(self) -> Iterator[Weight]:
        return (Weight(name, "vector") for name in (self.weight, self.bias) if name is not None)


@dataclass(frozen=True)
class HeadNorm:
    """Norm of each head of queries or keys, before the rope or after it: RMS, or LayerNorm without bias. ``weight`` has
    (head_dim) numbers or (heads, head_dim), None: ones. ``eps`` is added to the mean square."""

    eps: float
    weight: str | None = None
    kind: Literal["rms", "layer"] = "rms"
    after_rope: bool = False

    def __str__(self) -> str:
        return f"{self.weight or self.kind}{' after rope' if self.after_rope else ''}"


@dataclass(frozen=True)
class Temperature:
    """Queries at position p are times ``1 + scale * ln(floor((p + offset) / length) + 1)``."""

    scale: float
    length: int
    offset: int = 0


@dataclass(frozen=True)
class Value:
    """One activation: ``cols`` floats for each row; ``source`` says in errors where it comes from."""

    id: int
    cols: int
    selected: bool
    source: str


@dataclass(frozen=True)
class CacheLayer:
    """What a layer keeps for each token: ``kv_heads`` keys of ``head_dim`` numbers and values of ``value_dim`` (0: they
    are parts of the keys), for as long as a later token sees them: one of the last ``window``, of its own ``chunk`` of
    positions (0: all)."""

    layer: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int = 0
    chunk: int = 0


@dataclass(frozen=True)
class StateLayer:
    """What a layer keeps of a sequence beside the cache: ``floats`` numbers, however many tokens there were. A layer
    may have several, for ops of different kinds."""

    layer: int
    floats: int
    kind: str = ""
