"""Kinds of projectors, a file each: how a picture is cut, what follows the encoder, what stands around its rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.formats import decode
from llamaq.models.keys import Keys
from llamaq.vision.hparams import keys_of, projector_type
from llamaq.vision.projector import Projector
from llamaq.vision.projectors.gemma3 import Gemma3
from llamaq.vision.projectors.gemma4v import Gemma4V
from llamaq.vision.projectors.idefics3 import Idefics3
from llamaq.vision.projectors.llama4 import Llama4
from llamaq.vision.projectors.llava_next import PINPOINTS, LlavaNext
from llamaq.vision.projectors.mllama import Mllama
from llamaq.vision.projectors.mlp import Mlp
from llamaq.vision.projectors.pixtral import Pixtral
from llamaq.vision.projectors.qwen2vl_merger import Qwen25VL
from llamaq.vision.projectors.qwen3vl_merger import Qwen3VL
from llamaq.vision.source import Source

__all__ = ["PROJECTORS", "projector_in", "projector_of"]

PROJECTORS: Mapping[str, type[Projector]] = {
    "gemma3": Gemma3,
    "gemma4v": Gemma4V,
    "idefics3": Idefics3,
    "llama4": Llama4,
    "mlp": Mlp,
    "pixtral": Pixtral,
    "qwen2.5vl_merger": Qwen25VL,
    "qwen3vl_merger": Qwen3VL,
}
"""By the name that files give them in ``clip.projector_type``."""


def projector_in(file: Source, model: Source) -> Projector:
    """The projector that a file describes for a model. Raises ``ModelError`` as ``projector_of``."""
    keys = keys_of(file.metadata, {name: info.shape for name, info in file.tensors.items()})
    if projector_type(keys) != "mllama":
        projector = projector_of(keys)
        projector.meet(model.metadata)
        return projector
    text = Keys(model.metadata, {name: info.shape for name, info in model.tensors.items()}, "mllama")
    return Mllama(keys, text, partial(_numbers, file))


def projector_of(keys: Keys) -> Projector:
    """The projector that a file's keys describe. Raises ``ModelError`` for a kind that llamaq lacks, and for keys that
    are missing, out of range or contradicted."""
    kind = projector_type(keys)
    if kind not in PROJECTORS:
        raise ModelError(f"clip.projector_type is {kind!r:.60}; llamaq has {', '.join(PROJECTORS)}")
    if kind == "mlp" and keys.count(PINPOINTS):
        return LlavaNext(keys)
    return PROJECTORS[kind](keys)


def _numbers(file: Source, name: str, row: int | None = None) -> NDArray[np.float32]:
    """Of a tensor, or of a row of it. Raises ``ModelError`` where there is none."""
    info = file.tensors.get(name)
    if info is None or (row is not None and row >= info.shape[0]):
        raise ModelError(f"the file has no tensor {name!r}" + ("" if row is None else f" with a row {row}"))
    data = file.data(name)
    return decode(info.format, data if row is None else data[row])
