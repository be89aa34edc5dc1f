"""The part of a checkpoint that sees images, and what its tensors become."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor, View
from llamaq.errors import ModelError

__all__ = ["IMAGES", "Change", "Images", "image_tensors"]

Change: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

IMAGES = re.compile(
    r"(model\.)?(vision_tower|vision_model|vision_embed_tokens|embed_vision|visual|multi_modal_projector|connector)\."
)
"""Names of tensors that are for images."""
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,5})(?=\.)")


@dataclass(frozen=True)
class Images:
    """``keys`` reads the hyperparameters from the whole configuration. ``table`` says what becomes of tensors: a name,
    or several with what is done to the numbers of each, None: the tensor is left out. Names are without what
    ``IMAGES`` allows before them and without ".weight" and ".bias"; * stands for a number."""

    keys: Callable[[Section], dict[str, Any]]
    table: Mapping[str, str | tuple[tuple[str, Change], ...] | None]


def image_tensors(checkpoint: Checkpoint, images: Images) -> list[NewTensor]:
    """The tensors to write, in the checkpoint's order. Raises ``ModelError`` for a name that is not in the table."""
    made: list[NewTensor] = []
    for name, shape in checkpoint.shapes.items():
        if not IMAGES.match(name):
            continue
        plain = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.", 1)
        numbers = _NUMBER.findall(plain)
        stem, _, end = _NUMBER.sub("*", plain).rpartition(".")
        whole = f"{stem}.{end}"
        if whole not in images.table and stem not in images.table:
            raise ModelError(f"tensor {name!r}: expected a name of the part for images, got one that it does not have")
        target, kind = (images.table[whole], "") if whole in images.table else (images.table[stem], f".{end}")
        several = ((target, None),) if isinstance(target, str) else target or ()
        for new, change in several:
            for number in numbers[:1]:
                new = new.replace("*", number)
            made.append(_tensor(f"{new}{kind}", name, shape, change))
    return made


def _tensor(new: str, old: str, shape: tuple[int, ...], change: Change | None) -> NewTensor:
    if len(shape) == 4:  # a convolution's kernel
        index = ((i, j) for i in range(shape[0]) for j in range(shape[1]))
        views = tuple(View(old, range(shape[2]), range(shape[3]), each) for each in index)
        return NewTensor(new, views, outer=shape[:2], stacked=True, change=change)
    if len(shape) > 2:
        raise ModelError(f"tensor {old!r}: expected up to two dimensions, or four, got the shape {shape}")
    return NewTensor(new, (View.whole(old, shape),), change=change)
