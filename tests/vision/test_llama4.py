"""Llama 4: tiles and what stands between them as transformers has it, and what moves rows and logits (test_towers.py
compares these)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.plan.inserted import Inserted
from llamaq.serving.reading import PromptRequest
from llamaq.vision.encoder import traced
from llamaq.vision.hparams import keys_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import projector_of
from llamaq.vision.projectors.llama4 import Llama4
from llamaq.vision.vit import square_rope
from seen import F32, encoded, log_probabilities, logits_of, pieces_of
from tiny_towers import projector_keys, projector_tensors, tower
from tiny_vision import copy_of
from vision_cases import PIXELS, SHAPES, SIZE, ids_of, picture, prompt_with, recorded

FAR = 1e-3  # a hundred times what rows differ by from those of transformers


def rows_with(path: Path | None = None) -> F32:
    return np.concatenate(encoded(path or tower("llama4")[1]))


def test_without_a_feature_rows_are_others() -> None:
    """Ropes and their axes, who stands for all of a tile, places, the order within a block, colours."""
    patches, step, keep = Llama4.patches, Llama4.step, Llama4.keep

    def turned(self: Any, tile: Any) -> Any:
        read = patches(self, tile)
        assert read.places is not None
        read.places[-1] = 1
        return read

    def whole_first(self: Any, table: Any) -> None:
        keep(self, table)
        self._added = self._added[::-1]

    changes: dict[str, Any] = {
        "square_rope": lambda dim, axes, layout: square_rope(dim, 50.0, axes=axes, layout=layout),
        "square_rope by other axes": lambda dim, axes, layout: square_rope(dim, axes=axes[::-1], layout=layout),
        "square_rope of other pairs": lambda dim, axes, layout: square_rope(dim, axes=axes, layout="neox"),
        "patches": lambda self, tile: patches(self, tile[..., ::-1]),
        "patches with a place for all": turned,
        "keep": whole_first,
        "order": property(lambda self: np.arange(self.hp.grid**2)),
        "step": lambda self, read: step(self, read),
    }
    want = recorded("llama4")["rows0-0"]
    for what, change in changes.items():
        place = what.split()[0]
        where = f"{Llama4.__module__}." + (place if place == "square_rope" else f"Llama4.{place}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, change)
            error = abs(rows_with() - want).max()
            assert error < 1e-5 if place == "step" else error > FAR, what


def test_separators_count() -> None:
    """With others between tiles, or none, logits are others."""
    want = recorded("llama4")["logprobs0"]
    model, mmproj = tower("llama4")
    with LLM.load(model, mmproj=mmproj, threads=2, cache_type="f32") as llm:
        (pieces,) = pieces_of(llm, 0)
        for change in (
            lambda text: text.replace("_x_", "_y_"),
            lambda text: text.replace("<|image|>", "<|image_end|>"),
        ):
            ids = [id for p in pieces for id in (ids_of(change(p)) if isinstance(p, str) else p.ids)]
            request = PromptRequest(prompt_with([ids]), 0)
            request.inserted = tuple(p for p in pieces if isinstance(p, Inserted))
            assert abs(log_probabilities(logits_of(llm, request)[0]) - want).max() > FAR


def pieces(shape: tuple[int, int]) -> list[Any]:
    keys = projector_keys("llama4") | {"clip.vision.image_size": SIZE}
    return [*projector_of(keys_of(keys, {})).pieces(Picture(picture(*shape)))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_are_those_of_transformers(shape: tuple[int, int]) -> None:
    want, sides = recorded("llama4_pictures"), "x".join(map(str, shape))
    found = pieces(shape)
    tiles = np.stack([piece.pixels for piece in found if isinstance(piece, Picture)])
    assert tiles.shape[1:] == (SIZE, SIZE, 3)
    assert abs(tiles[:, PIXELS[:, 0], PIXELS[:, 1]].astype(int) - want[sides].astype(int)).max() <= 1
    text = "".join("#" if isinstance(piece, Picture) else piece for piece in found)
    assert text == str(want[f"{sides} text"])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"vision.projector.scale_factor": 3}, "patches by 3 along each side"),
        ({"vision.attention.head_count": 16}, "heads whose length four divides"),
        ({"vision.image_size": 48}, "expected 37 rows of 32 columns"),
        ({"vision.projection_dim": 63}, "projection_dim is 63; expected"),
        ({"vision.image_size": 4096, "vision.patch_size": 512}, "is 4096; expected up to 2048 pixels for 16 tiles"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    path = copy_of(tower("llama4")[1], tmp_path / "x.gguf", {f"clip.{key}": value for key, value in entries.items()})
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


def test_a_class_of_another_length_is_an_error() -> None:
    tensors = projector_tensors("llama4") | {"v.class_embd": np.zeros(31, np.float32)}
    shapes = {name: x.shape for name, x in tensors.items()}
    with pytest.raises(ModelError, match=r"as 'v\.class_embd' has them, got \(17, 32\) and \(31,\)"):
        projector_of(keys_of(projector_keys("llama4"), shapes)).keep(tensors.__getitem__)
