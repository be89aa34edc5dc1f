"""Files of Ollama's that have text and encoder in one, shown as projector files are: by tables of names and keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Info
from llamaq.errors import ModelError
from llamaq.formats import Format, can_decode, decode, format_by_name
from llamaq.gguf import GGUFFile

__all__ = ["CLIP", "HALVES", "Bytes", "Layout", "Merged", "Part", "Parts", "floats", "numbers", "patches_along"]

Bytes = NDArray[np.uint8]
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,5})(?=\.)")
HALVES = {"vision.image_mean": [0.5] * 3, "vision.image_std": [0.5] * 3}
CLIP = {
    "vision.image_mean": [0.48145466, 0.4578275, 0.40821073], "vision.image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
"""Mean and deviation of colours, which such files leave out."""


@dataclass(frozen=True)
class Part:
    """A tensor of a projector file, as it is made of those there; ``data`` gives its rows."""

    format: Format
    shape: tuple[int, ...]
    data: Callable[[], Bytes]

    @property
    def nbytes(self) -> int:
        *outer, columns = self.shape
        return int(np.prod(outer, dtype=np.int64)) * self.format.row_bytes(columns)


Parts = Mapping[str, Part]


@dataclass(frozen=True)
class Layout:
    """Keys ``vision.*`` keep their names, others have them in ``keys`` (by that of projector files); ``usual`` are
    those that such files leave out, ``follow`` gives those that follow from the file. ``names`` are stems of tensors
    there and in projector files, where they differ; * stands for a number. ``parts`` gives the tensors that are made of
    others, in whose place they stand."""

    kind: str
    usual: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    follow: Callable[[GGUFFile, Mapping[str, Any]], dict[str, Any]] = lambda file, keys: {}
    parts: Callable[[GGUFFile, Mapping[str, Any]], Parts] = lambda file, keys: {}


class Merged:
    """Such a file as a ``vision.source.Source``. Raises ``ModelError`` where keys or tensors are not as the layout has
    them."""

    def __init__(self, file: GGUFFile, layout: Layout) -> None:
        self._file = file
        place = f"{file.metadata['general.architecture']}."
        own = {key.removeprefix(place): value for key, value in file.metadata.items() if key.startswith(place)}
        keys = {key: value for key, value in own.items() if key.startswith("vision.")}
        keys |= {new: own[old] for new, old in layout.keys.items() if old in own}
        if "embedding_length" in own:
            keys["vision.projection_dim"] = own["embedding_length"]
        keys = {**layout.usual, **keys, "projector_type": layout.kind, "has_vision_encoder": True}
        keys |= layout.follow(file, keys)
        self.metadata: Mapping[str, Any] = {
            "general.architecture": "clip", **{f"clip.{key}": value for key, value in keys.items()}
        }  # fmt: skip
        self._parts = layout.parts(file, keys)
        self._names = {_renamed(name, layout.names): name for name in file.tensors if name.startswith(("v.", "mm."))}
        self.tensors: Mapping[str, Info] = {
            **{new: file.tensors[old] for new, old in self._names.items()}, **self._parts
        }  # fmt: skip

    def data(self, name: str) -> Bytes:
        return self._parts[name].data() if name in self._parts else self._file.data(self._names[name])

    def check(self) -> None:
        self._file.check()


def _renamed(name: str, names: Mapping[str, str]) -> str:
    layers = _NUMBER.findall(name)
    pattern = _NUMBER.sub("*", name)
    stem, dot, kind = pattern.rpartition(".")
    found = names.get(pattern) or (names[stem] + dot + kind if stem in names else pattern)
    for layer in layers:
        found = found.replace("*", layer, 1)
    return found


def numbers(file: GGUFFile, name: str, row: int | None = None) -> NDArray[np.float32]:
    """A tensor as floats, or a row of it. Raises ``ModelError`` where there is none."""
    info = file.tensors.get(name)
    if info is None or not can_decode(info.format) or (row is not None and not 0 <= row < info.shape[0]):
        raise ModelError(f"the file needs the tensor {name!r}" + ("" if row is None else f" with a row {row}"))
    data = file.data(name)
    return decode(info.format, data if row is None else data[row]).reshape(info.shape if row is None else -1)


def patches_along(file: GGUFFile, name: str) -> int:
    """Patches of a side of the square that a table has positions for."""
    info = file.tensors.get(name)
    side = isqrt(info.shape[0]) if info is not None else 0
    if info is None or side < 1 or side**2 != info.shape[0]:
        raise ModelError(f"tensor {name!r}: expected a row for each place of a square, got {info and info.shape}")
    return side


def floats(x: NDArray[np.float32]) -> Part:
    """A tensor of these numbers."""
    rows = np.ascontiguousarray(x, np.float32)
    return Part(format_by_name("F32"), x.shape, lambda: rows.view(np.uint8))
