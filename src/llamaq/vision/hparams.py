"""What a projector file says of its image encoder, believed only after a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation

__all__ = ["VisionHParams", "check_sides", "keys_of", "projector_type", "read"]

_MOST_PATCHES = 1 << 14  # patches of one image; the models that there are have 4096 at most
_MOST_PIXELS = 1 << 13  # pixels of a side


@dataclass(frozen=True)
class VisionHParams:
    """``image_size`` and ``patch_size`` are pixels of a side, ``width`` and ``columns`` the floats of a state and of a
    row of the result; ``mean`` and ``std`` are of red, green and blue between 0 and 1."""

    projector: str
    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    eps: float
    activation: Activation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: int

    @property
    def grid(self) -> int:
        """Patches of a side."""
        return self.image_size // self.patch_size

    @property
    def patch_values(self) -> int:
        return 3 * self.patch_size**2

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def scale(self) -> float:
        """Of attention's scores."""
        return 1 / sqrt(self.head_dim)


def keys_of(metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Keys:
    """The keys of a projector file. Raises ``ModelError`` for another file."""
    architecture = metadata.get("general.architecture")
    if architecture == "mllama" and "v.patch_embd.weight" in shapes:
        return Keys(metadata, shapes, "mllama")
    if architecture != "clip":
        raise ModelError(
            f"general.architecture is {architecture!r:.60}, but a projector file (mmproj) has 'clip'; give the file "
            "that belongs to the model, often named mmproj-*.gguf"
        )
    return Keys(metadata, shapes, "clip")


def projector_type(keys: Keys) -> str:
    """The kind of projector, as the file names it; LLaVA's first files name none."""
    if keys.architecture == "mllama":
        return "mllama"
    named = [key for key in ("projector_type", "vision.projector_type") if keys.has(key)]
    if not named:
        return "mlp" if keys.flag("has_llava_projector", False) else ""
    return keys.string(named[0], "")


def check_sides(keys: Keys) -> tuple[int, int]:
    """Pixels of a side of a tile and of a patch. Raises ``ModelError`` for too few or too many patches."""
    image, patch = (keys.integer(f"vision.{name}", high=_MOST_PIXELS) for name in ("image_size", "patch_size"))
    if image < patch or (image // patch) ** 2 > _MOST_PATCHES:
        raise keys.error("vision.image_size", image, f"{patch} to {int(sqrt(_MOST_PATCHES)) * patch}, a patch at least")
    return image, patch


def read(keys: Keys, activation: Activation | None = None) -> VisionHParams:
    """What all kinds have; ``activation`` is given where files leave it open. Raises ``ModelError`` for a key that is
    missing, out of range or contradicted."""
    image, patch = check_sides(keys)
    width = keys.integer("vision.embedding_length")
    heads = keys.integer("vision.attention.head_count", high=width)
    if width % heads:
        raise keys.error("vision.attention.head_count", heads, f"a divisor of embedding_length ({width})")
    silu, gelu = (keys.flag(f"use_{name}", False) for name in ("silu", "gelu"))
    mean, std = (keys.numbers(f"vision.image_{name}", 3) for name in ("mean", "std"))
    if min(std) <= 0:
        raise keys.error("vision.image_std", std, "positive numbers")
    activation = activation or ("silu" if silu else "gelu" if gelu else "gelu_quick")
    return VisionHParams(
        projector_type(keys), image, patch, width, keys.integer("vision.block_count"), heads,
        keys.positive("vision.attention.layer_norm_epsilon"), activation, mean, std,
        keys.integer("vision.projection_dim"),
    )  # fmt: skip
