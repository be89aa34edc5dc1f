"""The shapes of a file's tensors, asked for by ops while they are traced; every complaint is a ModelError."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

from llamaq.errors import ModelError
from llamaq.plan.operands import Norm, Role, Value, Weight

__all__ = ["Part", "Shapes", "WeightName"]


@dataclass(frozen=True)
class Part:
    """Rows ``begin`` to ``end`` of a tensor that holds several weights, one behind the other. ``alone`` is what the
    weight is called in files where it has its own tensor: its bias may have one here, too."""

    name: str
    begin: int
    end: int
    alone: str | None = None


WeightName = str | Part
"""A weight as models name it, without ".weight", or some of its rows."""


class Shapes:
    """``shapes`` maps full tensor names to (rows, cols), (n,) or (experts, rows, cols), as in ``TensorInfo.shape``."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._shapes

    def has_shape(self, tensor: str, *shape: int) -> bool:
        return self._shapes.get(tensor) == shape

    def of(self, tensor: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that must have so many dimensions."""
        shape = self._shapes.get(tensor)
        if shape is None:
            near = difflib.get_close_matches(tensor, self._shapes, n=3) or ["none"]
            raise ModelError(f"the file has no tensor {tensor!r}; the nearest names are {', '.join(near)}")
        if len(shape) != dimensions:
            words = {1: "one dimension", 2: "two dimensions", 3: "three dimensions"}
            raise ModelError(f"tensor {tensor!r}: expected {words[dimensions]}, got {shape}")
        return shape

    def matrix(self, weight: Weight) -> tuple[int, int]:
        """Rows and columns of a matrix, or of the part of it."""
        rows, cols = self.of(weight.name, 2)
        if weight.rows is not None:
            begin, end = weight.rows
            if not 0 <= begin < end <= rows:
                raise ModelError(f"tensor {weight.name!r}: expected at least {end} rows, got {rows}")
            rows = end - begin
        return rows, cols

    def stack(self, weight: Weight) -> tuple[int, int, int]:
        """Experts, and the rows and columns of each matrix, or of the part of it."""
        experts, rows, cols = self.of(weight.name, 3)
        begin, end = weight.rows or (0, rows)
        if not 0 <= begin < end <= rows:
            raise ModelError(f"tensor {weight.name!r}: expected at least {end} rows, got {rows}")
        return experts, end - begin, cols

    def check_biases(self, biases: Weight, experts: int, n: int) -> None:
        """Raises where there are not ``n`` numbers for each expert, or in the part of them."""
        shape = self.of(biases.name, 2)
        begin, end = biases.rows or (0, n)
        if end - begin != n or shape[0] != experts or (shape[1] != n if biases.rows is None else end > shape[1]):
            raise ModelError(f"tensor {biases.name!r}: expected shape ({experts}, {end}), got {shape}")

    def check_vector(self, vector: Weight, n: int, *, parts: int = 1) -> None:
        """Raises where a vector, or the part of it, has other than ``n`` numbers. It may be a matrix of one row or
        column, or one with a row for each of its ``parts``."""
        shape = self.of(vector.name, len(self._shapes.get(vector.name, ())) or 1)
        if len(shape) == 2 and (shape[0] in (1, parts) or shape[1] == 1):
            shape = (shape[0] * shape[1],)
        begin, end = vector.rows or (0, n)
        if end - begin != n or (shape != (n,) if vector.rows is None else len(shape) != 1 or end > shape[0]):
            raise ModelError(f"tensor {vector.name!r}: expected shape ({end},), got {shape}")

    def check_norm(self, norm: Norm | None, x: Value) -> None:
        for vector in () if norm is None else norm.reads():
            self.check_vector(vector, x.cols)

    def weight(self, name: WeightName, role: Role) -> Weight:
        if isinstance(name, Part):
            return Weight(f"{name.name}.weight", role, (name.begin, name.end))
        return Weight(self._full(name), role)

    def bias(self, name: WeightName) -> Weight | None:
        """The bias that the file has for a weight, or None."""
        bias = self.weight(name, "vector")
        tensor = f"{bias.name.removesuffix('.weight')}.bias"
        if tensor not in self._shapes and isinstance(name, Part) and name.alone is not None:
            return self.bias(name.alone)
        return Weight(tensor, "vector", bias.rows) if tensor in self._shapes else None

    @overload
    def norm(self, norm: Norm) -> Norm: ...
    @overload
    def norm(self, norm: Norm | None) -> Norm | None: ...
    def norm(self, norm: Norm | None) -> Norm | None:
        """A norm by its tensors' full names; the file decides whether a layer norm has a bias."""
        if norm is None or norm.weight is None:
            return norm
        bias = f"{norm.weight}.bias"
        has_bias = norm.kind == "layer" and bias in self._shapes
        return Norm(self._full(norm.weight), norm.eps, norm.kind, bias if has_bias else None)

    def _full(self, name: str) -> str:
        """The name of a tensor, which few files have without ".weight"."""
        return name if name in self._shapes else f"{name}.weight"
