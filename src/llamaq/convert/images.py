"""The part of a checkpoint that sees images, and what its tensors become."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.rules import Source, Table, rule_in
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor
from llamaq.errors import ModelError

__all__ = ["IMAGES", "Images", "image_tensors", "processor_of"]

IMAGES = re.compile(
    r"(model\.)?(vision_tower|vision_model|vision_embed_tokens|embed_vision|visual|multi_modal_projector|connector)\."
    r"|(model\.)?image_newline$"
)
"""Names of tensors that are for images."""
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,5})(?=\.)")


@dataclass(frozen=True)
class Images:
    """``keys`` reads the hyperparameters from the whole configuration and from that of the processor, which cuts and
    colours images. ``table`` says what becomes of tensors: names are without "model." before them and without
    ".weight" and ".bias"; * stands for a number, which new names repeat. ``further`` gives tensors that are made of
    others."""

    keys: Callable[[Section, Section], dict[str, Any]]
    table: Table
    further: Callable[[Checkpoint], list[NewTensor]] = lambda checkpoint: []


def processor_of(checkpoint: Checkpoint) -> Section:
    """The configuration of the processor, in a file of its own or in one with others'."""
    return checkpoint.json("preprocessor_config.json") or checkpoint.json("processor_config.json").section(
        "image_processor"
    )


def image_tensors(checkpoint: Checkpoint, images: Images, keys: Mapping[str, Any]) -> list[NewTensor]:
    """The tensors to write, in the checkpoint's order; ``keys`` are the new file's. Raises ``ModelError`` for a name
    that is not in the table."""
    made: list[NewTensor] = []
    for name, shape in checkpoint.shapes.items():
        if not IMAGES.match(name):
            continue
        plain = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.", 1)
        if (found := rule_in(images.table, _NUMBER.sub("*", plain))) is None:
            raise ModelError(f"tensor {name!r}: expected a name of the part for images, got one that it does not have")
        rule, kind = found
        layer = next(map(int, _NUMBER.findall(plain)), -1)
        if rule is not None:
            made += rule(Source((name,), shape, "", kind, keys, layer))
    return made + images.further(checkpoint)
