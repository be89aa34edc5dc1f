"""The tensors of a projector file, laid out as the plan reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Info
from llamaq.errors import ModelError
from llamaq.formats import Format, can_decode, decode, format_by_name
from llamaq.vision.projector import Projector
from llamaq.vision.source import Source
from llamaq.vision.vit import PATCHES

__all__ = ["VisionTensors"]

_SECOND = f"{PATCHES}.weight.1"
JOINED = "mm.0.weight"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Info:
    format: Format
    shape: tuple[int, ...]
    nbytes: int


class VisionTensors:
    """A source of tensors in the place of the file (``engine.Tensors``).

    The kernel of the patches is a matrix; positions stand in the order in which patches are given; a projection that
    files have the other way round has a row for each output; that of Llama 3.2 has the columns of each layer together.
    What is not in the file is in that of the ``model``.
    """

    mapped = False  # what it gives may be a copy

    def __init__(self, file: Source, projector: Projector, model: Source | None = None) -> None:
        self._file, self._model = file, model
        self._projector = projector
        kernel, second = (file.tensors.get(name) for name in (f"{PATCHES}.weight", _SECOND))
        self._second = second is not None and kernel is not None and second.shape == kernel.shape
        self.tensors: Mapping[str, Info] = {
            **({} if model is None else model.tensors),
            **{name: self._info(name) for name in file.tensors},
        }

    def check(self) -> None:
        self._file.check()
        if self._model is not None:
            self._model.check()

    def data(self, name: str) -> Bytes:
        """Its rows: uint8 (*outer, bytes of a row)."""
        if name not in self._file.tensors:
            assert self._model is not None
            return self._model.data(name)
        data, info = self._file.data(name), self._file.tensors[name]
        change = self._change(name)
        return data if change is None else change(data, info.format)

    def table(self, name: str) -> NDArray[np.float32]:
        """A tensor as floats, in its own shape. Raises ``ModelError`` where there is none."""
        if name not in self._file.tensors or not can_decode((info := self._file.tensors[name]).format):
            raise ModelError(f"the projector needs the tensor {name!r}, in a format that llamaq reads")
        return decode(info.format, self._file.data(name)).reshape(info.shape)

    def _info(self, name: str) -> _Info:
        info = self._file.tensors[name]
        if name == f"{PATCHES}.weight" and self._second and len(info.shape) == 4:
            shape = (info.shape[0], int(np.prod(info.shape[1:])))
            return _Info(format_by_name("F32"), shape, 4 * shape[0] * shape[1])
        if name == f"{PATCHES}.weight" and len(info.shape) == 4 and info.format.block == 1:
            return _Info(info.format, (info.shape[0], int(np.prod(info.shape[1:]))), info.nbytes)
        if name == self._projector.transposed and len(info.shape) == 2 and can_decode(info.format):
            format = info.format if info.format.block == 1 else format_by_name("F32")
            shape = info.shape[::-1]
            return _Info(format, shape, shape[0] * format.row_bytes(shape[1]))
        if self._regroups(name) and can_decode(info.format):
            format = info.format if info.format.block == 1 else format_by_name("F32")
            return _Info(format, info.shape, info.shape[0] * format.row_bytes(info.shape[1]))
        return _Info(info.format, info.shape, info.nbytes)

    def _regroups(self, name: str) -> bool:
        return name == self._projector.alternating or (name == JOINED and self._projector.taken_layers > 0)

    def _both(self, first: NDArray[np.float32], shape: tuple[int, ...]) -> Bytes:
        """The kernels of two frames, which are the same for a picture, as one."""
        with np.errstate(all="ignore"):  # what is no number is told of once rows are made
            total = first.reshape(shape) + self.table(_SECOND)
        return np.ascontiguousarray(total, np.float32).reshape(shape[0], -1).view(np.uint8)

    def _change(self, name: str) -> Callable[[Bytes, Format], Bytes] | None:
        shape = self._file.tensors[name].shape
        if name == f"{PATCHES}.weight":
            if self._second:
                return lambda data, format: self._both(decode(format, data), shape)
            return lambda data, _: data.reshape(shape[0], -1)
        if (order := self._projector.row_order(name, shape)) is not None:
            return lambda data, _: np.ascontiguousarray(data.reshape(len(order), -1)[order]).reshape(data.shape)
        if self._regroups(name):
            joined = name == JOINED
            count = self._projector.taken_layers if joined else self._projector.merge**2
            width = self._projector.hp.width
            return partial(_regrouped, name=name, count=count, width=width, before=width if joined else 0)
        return _transposed if name == self._projector.transposed else None


def _regrouped(data: Bytes, format: Format, *, name: str, count: int, width: int, before: int) -> Bytes:
    """Columns of ``count`` parts of ``width``, which alternate behind some ``before`` them, part by part."""
    if format.block != 1:
        data, format = decode(format, data).view(np.uint8), format_by_name("F32")
    elements = data.reshape(len(data), -1, format.block_bytes)
    if elements.shape[1] != before + count * width:
        raise ModelError(f"tensor {name!r}: expected {before + count * width} columns, got {elements.shape[1]}")
    parts = elements[:, before:].reshape(len(data), width, count, -1).transpose(0, 2, 1, 3)
    return np.concatenate([elements[:, :before].reshape(len(data), -1), parts.reshape(len(data), -1)], axis=1)


def _transposed(data: Bytes, format: Format) -> Bytes:
    if format.block != 1:
        data, format = decode(format, data).view(np.uint8), format_by_name("F32")
    elements = data.reshape(data.shape[0], -1, format.block_bytes).transpose(1, 0, 2)
    return np.ascontiguousarray(elements).reshape(elements.shape[0], -1)
