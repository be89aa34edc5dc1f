"""An operation of a plan: a frozen dataclass with typed fields, which says what it reads, the shapes of its results,
and how NumPy computes them. A file of ``plan/ops`` holds all there is of one operation; ``csrc/engine/ops`` has its
twin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.plan.operands import CacheLayer, HeadNorm, Norm, StateLayer, Temperature, Value, Weight
from llamaq.plan.rope import Rope

if TYPE_CHECKING:
    from llamaq.plan.shapes import Shapes
    from llamaq.plan.step import Step

__all__ = ["F32", "Lowering", "Op", "Run"]

F32: TypeAlias = NDArray[np.float32]


class Run(Protocol):
    """What an op's reference sees of a forward pass (``plan.reference``)."""

    @property
    def step(self) -> Step: ...
    def multiply(self, weight: Weight, x: F32, expert: int = 0, sequences: NDArray[np.int32] | None = None) -> F32:
        """``x @ weight.T``, float32 (rows, outputs), of a stack with the matrix of an expert. ``sequences`` are those
        of the rows, which are all of the step or the selected ones where it is None."""

    def sequences(self, rows: int) -> NDArray[np.int32]:
        """Of all rows of the step or of the selected ones, whichever are so many."""

    def vector(self, weight: Weight | str) -> F32: ...
    def lookup(self, table: Weight, ids: NDArray[np.int32]) -> F32:
        """Rows of a table, float32 (ids, columns). Raises ``ValueError`` for an id outside it."""

    def remember(self, layer: int, sequence: int, start: int, keys: F32, values: F32) -> tuple[F32, F32]:
        """Puts keys and values of tokens from ``start`` on into the cache. Gives all that the sequence has there, as
        the cache rounds them."""

    def recall(self, layer: int, sequence: int) -> tuple[F32, F32]:
        """What ``remember`` gave another op of this step."""

    def state(self, state: StateLayer, sequence: int) -> F32:
        """A layer's state of a sequence, float32 (floats,), as the rows before the step left it; zeros before the
        first. What the op writes there is the state after the step."""


class Lowering(Protocol):
    """Numbers that stand for weights, ropes, layers of the cache and states in the compiled executor."""

    def weight(self, weight: Weight) -> int: ...
    def rope(self, rope: Rope) -> int: ...
    def cache(self, layer: int) -> tuple[int, int]:
        """The layer's cache group, and its number in it."""

    def state(self, state: StateLayer) -> int:
        """The state's number among those of the plan."""


class Op(ABC):
    """Base of all operations. What a subclass has as fields is all that it can be told, and each field reaches both
    executors: this class lowers them by type."""

    kind: ClassVar[str]
    selects: ClassVar[bool] = False
    """Whether it, and all after it, works on the rows whose logits are wanted."""
    whole_texts: ClassVar[bool] = False
    """Whether a step must hold each of its texts from the first token to the last."""

    @abstractmethod
    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        """Columns of each result. Raises ``ModelError`` where tensors are missing or do not fit, ``ValueError`` for
        what no file can mend."""

    @abstractmethod
    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        """The results, float32 (rows, columns), with the bits of docs/numerics.md."""

    @property
    def norm_first(self) -> Norm | None:
        """The norm that its input goes through, where it has one."""
        return next((v for field in fields(self) if isinstance(v := getattr(self, field.name), Norm)), None)  # type: ignore[arg-type]

    @property
    def keeps(self) -> CacheLayer | None:
        """What it puts into the cache."""
        return None

    @property
    def remembers(self) -> StateLayer | None:
        """The state that it keeps of each sequence."""
        return None

    @property
    def experts_used(self) -> int | None:
        """How many experts of its stacks a row goes to, where it has stacks."""
        return None

    def scratch_cols(self, cols: tuple[int, ...]) -> int:
        """Floats for each row that the executor keeps while it runs, beside its results of so many columns and a
        copy of what it reads."""
        return 0

    def reads(self) -> Iterator[Weight]:
        """All that it reads of the file."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Weight):
                    yield item
                elif isinstance(item, Norm):
                    yield from item.reads()
                elif isinstance(item, HeadNorm) and item.weight is not None:
                    yield Weight(item.weight, "vector")

    def ropes(self) -> Iterator[Rope]:
        return (v for field in fields(self) if isinstance(v := getattr(self, field.name), Rope))  # type: ignore[arg-type]

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        """Its fields as its twin in ``csrc/engine/ops`` reads them; None is left out."""
        found: dict[str, object] = {}
        for field in fields(self):  # type: ignore[arg-type]
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, Norm):
                found[f"{name}_eps"], found[f"{name}_kind"] = value.eps, value.kind
                for key, vector in ((name, value.weight), (f"{name}_bias", value.bias)):
                    if vector is not None:
                        found[key] = lowering.weight(Weight(vector, "vector"))
            elif isinstance(value, HeadNorm):
                if value.weight is not None:
                    found[name] = lowering.weight(Weight(value.weight, "vector"))
                found[f"{name}_eps"], found[f"{name}_layer"] = value.eps, value.kind == "layer"
                found[f"{name}_after_rope"] = value.after_rope
            elif isinstance(value, Temperature):
                found[name], found[f"{name}_length"] = value.scale, value.length
                found[f"{name}_offset"] = value.offset
            elif isinstance(value, Weight):
                found[name] = lowering.weight(value)
            elif isinstance(value, Rope):
                found[name] = lowering.rope(value)
            elif isinstance(value, tuple):
                found[name] = [lowering.weight(v) if isinstance(v, Weight) else -1 if v is None else v for v in value]
            elif value is not None:
                found[name] = value
        return found

    def __str__(self) -> str:
        """Weights, then biases behind a plus, then the other fields, but those that are as usual."""
        values = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}  # type: ignore[arg-type]
        biases = values.pop("biases", ())
        weights = [w for v in values.values() for w in (v if isinstance(v, tuple) else (v,)) if isinstance(w, Weight)]
        rest = [f"{k}={v}" for k, v in values.items() if v is not None and not isinstance(v, Weight | tuple)]
        return " ".join([*map(str, weights), *(f"+{b}" for b in biases if b is not None), *rest])
