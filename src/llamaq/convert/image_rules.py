"""What becomes of tensors that see images: further words for the tables of `families`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.rules import Rule, Source, same
from llamaq.convert.views import NewTensor, View

__all__ = ["changed", "each", "flat_kernel", "frames", "merger_of", "parts"]

_COLOURS = 3


def changed(name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Rule:
    """The tensor with its numbers changed."""

    def rule(source: Source) -> list[NewTensor]:
        (old,) = source.names
        if len(source.shape) > 2:
            raise source.error("up to two dimensions")
        return [source.new(name, View.whole(old, source.shape), change=change)]

    return rule


def each(*rules: Rule) -> Rule:
    """A tensor of which several are made."""
    return lambda source: [new for rule in rules for new in rule(source)]


def parts(*names: str) -> Rule:
    """Rows of several tensors in one, as many of each."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        if len(shape) > 2 or shape[0] % len(names):
            raise source.error(f"rows of {len(names)} tensors")
        rows, cols = shape[0] // len(names), range(shape[1]) if len(shape) == 2 else None
        return [source.new(name, View(old, range(i * rows, (i + 1) * rows), cols)) for i, name in enumerate(names)]

    return rule


def frames(name: str) -> Rule:
    """A kernel for two frames, as one for the first and one for the second; a bias stays."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        if len(shape) == 1:
            return same(name)(source)
        if len(shape) != 5 or shape[2] != 2:
            raise source.error("a kernel for two frames")
        first, second = (
            source.new(name, *(View.whole(old, shape, i, j, frame) for i, j in np.ndindex(shape[:2])), stacked=True,
                       outer=shape[:2])
            for frame in range(2)
        )  # fmt: skip
        return [first, replace(second, name=f"{second.name}.1")]

    return rule


def flat_kernel(name: str) -> Rule:
    """A matrix whose rows are patches, colour by colour within a pixel, as a kernel with plane by plane."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        side = isqrt(shape[-1] // _COLOURS)
        if len(shape) != 2 or shape[1] != _COLOURS * side**2:
            raise source.error("rows of square patches in three colours")
        planes = tuple(range(i, shape[1], _COLOURS) for i in range(_COLOURS))
        return [source.new(name, View.whole(old, shape), columns=planes, cut=(_COLOURS, side, side))]

    return rule


def merger_of(name: str, layers: str) -> Rule:
    """A tensor of a merger, numbered among its like; the new name has the layer's number. ``layers`` is the key that
    flags layers with one."""

    def rule(source: Source) -> list[NewTensor]:
        (old,) = source.names
        flagged = [i for i, flag in enumerate(source.keys[layers]) if flag]
        if len(source.shape) > 2 or not 0 <= source.layer < len(flagged):
            raise source.error(f"a merger of one of the layers {flagged}")
        return [source.new(name.replace("*", str(flagged[source.layer])), View.whole(old, source.shape))]

    return rule
