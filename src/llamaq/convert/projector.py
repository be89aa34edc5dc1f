"""The part of a checkpoint that sees images, as a file beside that of the text: a projector, as llama.cpp has them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.encoded import encoded, pieces_of
from llamaq.convert.family import Family
from llamaq.convert.images import IMAGES, image_tensors, processor_of
from llamaq.convert.views import NewTensor
from llamaq.engine.engine import Info
from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf.types import TensorInfo
from llamaq.vision.encoder import traced

__all__ = ["has_images", "projector_beside", "projector_of"]


def has_images(checkpoint: Checkpoint) -> bool:
    """Whether there are tensors that see images."""
    return any(IMAGES.match(name) for name in checkpoint.shapes)


def projector_beside(target: Path) -> Path:
    """The name of the projector's file beside that of the text, as llama.cpp has it."""
    return target.with_name(f"mmproj-{target.name}")


def projector_of(checkpoint: Checkpoint, family: Family) -> tuple[dict[str, Any], list[NewTensor]]:
    """Keys and tensors of the projector's file. Raises ``ModelError`` for a part for images that llamaq does not
    convert, or that would not run."""
    if not has_images(checkpoint):
        raise ModelError(f"{checkpoint.folder}: expected tensors that see images, got none; the model reads text alone")
    if family.inside:
        raise ModelError(f"the file of {family.architecture} has the part for images inside; convert it whole")
    if family.images is None:
        raise ModelError(f"the part for images of {family.classes[0]} is none that llamaq converts")
    found = family.images.keys(checkpoint.config, processor_of(checkpoint))
    new = image_tensors(checkpoint, family.images, found)
    keys = {"general.architecture": "clip", "clip.has_vision_encoder": True}
    keys |= {f"clip.{key}": value for key, value in found.items()}
    try:
        traced(_Unwritten(checkpoint, keys, new))
    except ModelError as error:
        message = f"config.json does not fit the tensors for images (both by their names in GGUF): {error}"
        raise ModelError(message) from None
    return keys, new


class _Unwritten:
    """A file that is not written yet, with all tensors in F32 (``vision.source.Source``)."""

    def __init__(self, checkpoint: Checkpoint, keys: Mapping[str, Any], new: list[NewTensor]) -> None:
        f32 = format_by_name("F32")
        self.metadata = keys
        self.tensors: Mapping[str, Info] = {
            t.name: TensorInfo(t.name, f32, t.shape, 4 * int(np.prod(t.shape, dtype=np.int64)), 0) for t in new
        }
        self._checkpoint, self._new = checkpoint, {t.name: t for t in new}

    def data(self, name: str) -> NDArray[np.uint8]:
        with ThreadPoolExecutor(1) as pool:
            tensor = encoded(self._checkpoint, self._new[name], "f32", pool)
            rows = np.concatenate([piece.reshape(-1) for piece in pieces_of(tensor)])
        return rows.reshape(*self.tensors[name].shape[:-1], -1)

    def check(self) -> None:
        return
