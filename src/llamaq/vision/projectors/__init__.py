"""Kinds of projectors, a file each: how a picture is cut, what follows the encoder, what stands around its rows."""

from __future__ import annotations

from collections.abc import Mapping

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.vision.hparams import projector_type
from llamaq.vision.projector import Projector
from llamaq.vision.projectors.gemma3 import Gemma3
from llamaq.vision.projectors.idefics3 import Idefics3
from llamaq.vision.projectors.qwen2vl_merger import Qwen25VL
from llamaq.vision.projectors.qwen3vl_merger import Qwen3VL

__all__ = ["PROJECTORS", "projector_of"]

PROJECTORS: Mapping[str, type[Projector]] = {
    "gemma3": Gemma3,
    "idefics3": Idefics3,
    "qwen2.5vl_merger": Qwen25VL,
    "qwen3vl_merger": Qwen3VL,
}
"""By the name that files give them in ``clip.projector_type``."""


def projector_of(keys: Keys) -> Projector:
    """The projector that a file describes. Raises ``ModelError`` for a kind that llamaq lacks, and for keys that are
    missing, out of range or contradicted."""
    kind = projector_type(keys)
    if kind not in PROJECTORS:
        raise ModelError(f"clip.projector_type is {kind!r:.60}; llamaq has {', '.join(PROJECTORS)}")
    return PROJECTORS[kind](keys)
