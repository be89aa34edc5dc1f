"""The families of models that can be converted, a file each: names and transformations of their tensors, their keys."""

from __future__ import annotations

from llamaq import models
from llamaq.convert.families import (
    bert,
    cohere,
    deepseek2,
    gemma,
    gemma4,
    glm4,
    gpt_oss,
    granite,
    lfm2,
    llama,
    llama4,
    mamba2,
    mllama,
    nemotron_h,
    olmo2,
    phi3,
    qwen,
    qwen35,
    starcoder2,
)
from llamaq.convert.family import Family
from llamaq.convert.section import Section, shown
from llamaq.errors import ModelError

__all__ = ["FAMILIES", "family_of"]

_MODULES = (
    llama, qwen, qwen35, gemma, gemma4, phi3, granite, olmo2, gpt_oss, llama4, deepseek2, starcoder2, cohere, glm4,
    lfm2, bert, mllama, nemotron_h, mamba2,
)  # fmt: skip
FAMILIES: tuple[Family, ...] = tuple(family for module in _MODULES for family in module.FAMILIES)
_CLASSES = {name for family in FAMILIES for name in family.classes}


def family_of(config: Section) -> Family:
    """The family that config.json's ``architectures`` names, the first that fits the rest. Raises ModelError for
    another, listing those known."""
    names = config.texts("architectures") or ["none"]
    if names[0] not in _CLASSES:
        raise ModelError(
            f"config.json: architectures: models of the class {shown(names[0])} are not supported; llamaq converts "
            + ", ".join(
                dict.fromkeys(models.family_of(family.architecture) or family.architecture for family in FAMILIES)
            )
        )
    return next(family for family in FAMILIES if names[0] in family.classes and family.fits(config))
