"""A family of models as Hugging Face has it, and what its tensors become."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llamaq.convert.images import IMAGES, Images
from llamaq.convert.rope import Tensors, rope_divisors
from llamaq.convert.rules import Rule, Source, Table, rule_in
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor
from llamaq.errors import ModelError

__all__ = ["PROJECTION", "Family", "new_tensors"]


@dataclass(frozen=True)
class Family:
    """``architecture`` is GGUF's name, ``classes`` are those of config.json's ``architectures``.

    ``keys`` reads the hyperparameters (named without the architecture) from the configuration; ``outer`` and ``block``
    say what becomes of the tensors outside and inside of the blocks, whose names begin with ``blocks`` (* stands for
    a number; names are without ".weight" and ".bias"). ``made`` gives tensors that follow from the configuration
    alone. ``fits`` tells families of one class apart. ``tied``: the output is the embedding table where the
    configuration does not say. ``predicts``: blocks beyond the last predict further tokens. The first comes behind the
    others, numbered as they are or of names that begin as ``predicting`` says, if ``block`` has the rest of its names;
    further ones are left out.
    ``images`` is the part that sees these, which stands ``inside`` of the file, or else in one of its own.
    """

    architecture: str
    classes: tuple[str, ...]
    keys: Callable[[Section], dict[str, Any]]
    block: Table
    outer: Table
    blocks: str = "model.layers.*."
    made: Callable[[Section, Mapping[str, Any]], Tensors] = rope_divisors
    fits: Callable[[Section], bool] = lambda config: True
    tied: bool = False
    predicts: bool = False
    predicting: str = r"^mtp\.layers\.0\.|^(?=mtp\.(?!layers\.))"
    images: Images | None = None
    inside: bool = False


PROJECTION = "eh_proj"
"""What a numbered block that predicts further tokens joins its inputs by."""
_SOUNDS = re.compile(r"(model\.)?(audio_tower|embed_audio)\.")
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,5})(?=\.)")


def _plain(name: str) -> str:
    """A name as the class for text has it: those of images and of heads put words before it, base models lack one."""
    name = re.sub(r"(language|text)_model\.", "", name, count=1)
    name = re.sub(r"^backbone\.", "model.", name)
    name = re.sub(r"^(bert|roberta)\.", "", name)
    name = re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda end: {"gamma": "weight", "beta": "bias"}[end[0]], name)
    return re.sub(r"^(?=(layers|embed_tokens|norm)\.)", "model.", name)


Shapes = Mapping[str, tuple[int, ...]]


def new_tensors(shapes: Shapes, family: Family, keys: Mapping[str, Any]) -> list[NewTensor]:
    """The tensors to write, in the order of a checkpoint's ``shapes`` by name. Raises ModelError for a name that the
    family does not have."""
    groups: dict[tuple[str, int, str], list[tuple[int, str]]] = {}
    for name in shapes:
        if IMAGES.match(name) or _SOUNDS.match(name):
            continue
        plain = old = _plain(name)
        if family.predicts:
            plain = re.sub(family.predicting, family.blocks.replace("*", str(keys["block_count"])), old)
            if plain.startswith("mtp."):  # further blocks, which nothing reads
                continue
        numbers = [int(n) for n in _NUMBER.findall(plain)]
        pattern = _NUMBER.sub("*", plain)
        layer = numbers.pop(0) if numbers and pattern.startswith(family.blocks) else -1
        if family.predicts and plain == old and layer >= keys["block_count"] + (PROJECTION in family.block):
            continue
        groups.setdefault((pattern, layer, str(numbers[1:])), []).append((numbers[0] if numbers else 0, name))
    made: list[NewTensor] = []
    for (pattern, layer, _), found in groups.items():
        rule, kind = _rule(family, pattern, layer, found[0][1])
        if rule is not None:
            made += rule(_source(shapes, sorted(found), layer, kind, keys))
    return made


def _rule(family: Family, pattern: str, layer: int, name: str) -> tuple[Rule | None, str]:
    """What becomes of a tensor, and the end of its name where that is not part of the table's."""
    table = family.block if layer >= 0 else family.outer
    inner = pattern.removeprefix(family.blocks) if layer >= 0 else pattern
    if (found := rule_in(table, inner)) is None:
        raise ModelError(f"tensor {name!r}: expected the names of {family.classes[0]}, got one that it does not have")
    return found


def _source(shapes: Shapes, found: list[tuple[int, str]], layer: int, kind: str, keys: Mapping[str, Any]) -> Source:
    names = tuple(name for _, name in found)
    shape = shapes[names[0]]
    odd = next((name for name in names if shapes[name] != shape), None)
    if odd is not None:
        raise ModelError(f"tensor {odd!r}: expected the shape {shape} of the others, got {shapes[odd]}")
    if [number for number, _ in found] != list(range(len(found))) and len(found) > 1:
        raise ModelError(
            f"tensor {names[0]!r}: expected experts numbered from 0 without gaps; download the whole folder"
        )
    return Source(names, shape, f"blk.{layer}." if layer >= 0 else "", kind, keys, layer)
