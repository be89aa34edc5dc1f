"""Pictures, prompts and what is kept of results, for tests of images and for what records their expected values."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EMBEDDED", "KEPT", "PIXELS", "SEEN", "SHAPES", "SIZE", "ids_of", "picture", "pixel_sample", "prompt",
    "prompt_with", "recorded",
]  # fmt: skip

DATA = Path(__file__).parents[1] / "data" / "vision"
EMBEDDED = {"gemma3v": 4, "smolvlm": 16}
"""Tiny models with projectors in the shared material, and rows of a tile of theirs."""
SIZE = 64
"""Pixels of a side of their tiles."""
KEPT = np.random.default_rng(5).permutation(2048)[:48]
"""Ids whose log-probabilities are recorded."""
SHAPES = [
    (64, 64), (1, 1), (1, 500), (500, 1), (63, 65), (640, 480), (480, 640), (1000, 300), (300, 1000), (97, 89),
    (896, 896), (1920, 1080), (33, 700), (224, 224), (512, 512), (513, 511), (100, 2000), (2000, 100), (800, 600),
    (7, 3),
]  # fmt: skip
"""Width and height of pictures whose preprocessing is recorded."""
PIXELS = np.random.default_rng(6).integers(0, SIZE, (80, 2))
"""Rows and columns of the pixels of each tile that are recorded."""
SEEN = [[(80, 48)], [(32, 96), (64, 16)]]
"""Width and height of the pictures in each prompt of models that read pictures of any shape."""


@cache
def recorded(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a recorded file; it is closed again, for pytest tells of files that are not."""
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pixels (height, width, 3): smooth, with noise and edges."""
    rng = np.random.default_rng([width, height, seed])
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(2, 40) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(2, 40)) for _ in range(3)]
    smooth = np.stack(waves, -1) * 70 + 128 + rng.normal(size=(height, width, 3)) * 12
    smooth[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return np.clip(smooth, 0, 255).round().astype(np.uint8)


def prompt() -> tuple[list[int], list[int]]:
    """Ids before and after a picture."""
    ids = np.random.default_rng(9).integers(3, 2000, 14).tolist()
    return [1, *ids[:6]], ids[6:]


def prompt_with(pictures: list[list[int]]) -> list[int]:
    """Ids of a prompt with the rows of pictures among them, some words between one and the next."""
    before, after = prompt()
    ids = list(before)
    for i, rows in enumerate(pictures):
        ids += [*(after[:3] if i else []), *rows]
    return [*ids, *after]


def ids_of(text: str) -> list[int]:
    """Ids that stand for a text between rows, which the vocabularies of tiny models do not have: another one for each
    special token."""
    return [2000 + zlib.crc32(token.encode()) % 40 for token in text.replace("><", ">\n<").split("\n")]


def pixel_sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of some pixels of a picture: (pixels, 3)."""
    rows, columns = (PIXELS * np.array(pixels.shape[:2]) // SIZE).T
    return np.asarray(pixels[rows, columns])
