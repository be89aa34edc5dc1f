"""What every op needs to be traced: values, checked shapes, the layer that is being built."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llamaq.errors import ModelError
from llamaq.plan.op import Op
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Part, Shapes

__all__ = ["Traced", "Tracer"]


@dataclass(frozen=True)
class Traced:
    """An op with the values that it reads and makes, and the layer that it is part of."""

    op: Op
    ins: tuple[Value, ...]
    outs: tuple[Value, ...]
    layer: int | None
    only_marked: bool = False


class Tracer:
    """Records ops; ``Graph`` adds a method for each kind (the classes ``Traces...`` in ``plan/ops``)."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = Shapes(shapes)
        self.traced: list[Traced] = []
        self._layer: int | None = None
        self._kept: set[tuple[type, int, str]] = set()  # layers of the cache and states
        self._values = 0
        self._only_marked = False

    def has(self, weight: str) -> bool:
        """Whether the file has the tensor ``weight`` + ".weight"."""
        return f"{weight}.weight" in self.shapes

    def rows(self, weight: str, begin: int, end: int) -> Part:
        """Some rows of a tensor, in the place of a weight's name."""
        return Part(weight, begin, end)

    def split(self, weight: str, rows: Sequence[int], alone: Sequence[str] = ()) -> tuple[Part, ...]:
        """The parts of a tensor that holds so many rows of each of several weights, in the place of their names;
        ``alone`` are those that they have in other files. Raises ``ModelError`` where it has other rows."""
        found = self.shapes.of(f"{weight}.weight", 2)[0]
        if found != sum(rows):
            raise ModelError(f"tensor '{weight}.weight': expected {' + '.join(map(str, rows))} rows, got {found}")
        ends = list(itertools.accumulate(rows))
        names = alone or (None,) * len(ends)
        return tuple(Part(weight, end - n, end, name) for n, end, name in zip(rows, ends, names, strict=True))

    def layers(self, count: int) -> Iterator[int]:
        """Numbers of layers; what is traced until the next one is asked for belongs to the layer."""
        for i in range(count):
            self._layer = i
            yield i
        self._layer = None

    @contextmanager
    def only_marked(self) -> Iterator[None]:
        """What is traced within matters to marked rows alone, and is left out where a step marks none."""
        self._only_marked = True
        yield
        self._only_marked = False

    def emit(self, op: Op, *ins: Value) -> tuple[Value, ...]:
        """Records an op, once its shapes are checked."""
        cols = op.shapes(self.shapes, *ins)
        for kept in (op.keeps, op.remembers):
            if kept is None:
                continue
            place = type(kept), kept.layer, getattr(kept, "kind", "")
            if place in self._kept:
                raise ValueError(f"layer {kept.layer} of the cache has its op already")
            self._kept.add(place)
        named = [str(weight) for weight in op.reads() if weight.role in ("matrix", "stack", "table")]
        sources = named if len(named) == len(cols) else [op.kind] * len(cols)
        selected = op.selects or any(v.selected for v in ins)
        outs = tuple(
            Value(self._values + i, c, selected, source)
            for i, (c, source) in enumerate(zip(cols, sources, strict=True))
        )
        self._values += len(outs)
        self.traced.append(Traced(op, ins, outs, self._layer, self._only_marked))
        return outs
