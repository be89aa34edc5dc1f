"""Pixtral and Ministral 3: pictures as transformers scales them, and what moves rows and logits (test_towers.py
compares these)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaq import LLM
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.plan.rope import Rope, make_rope
from llamaq.serving.reading import PromptRequest
from llamaq.vision.encoder import traced
from llamaq.vision.hparams import keys_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import projector_of
from llamaq.vision.projectors.pixtral import Pixtral
from seen import F32, encoded, log_probabilities, logits_of, pieces_of
from tiny_towers import projector_keys, tower
from tiny_vision import copy_of
from vision_cases import SHAPES, ids_of, picture, pixel_sample, prompt_with, recorded

FAR = 1e-3  # a hundred times what rows differ by from those of transformers


def rows_with(path: Path | None = None) -> F32:
    return encoded(path or tower("mistral3")[1])[0]


def test_without_a_feature_rows_are_others() -> None:
    """Ropes, their axes and pairs, the order within a block and of columns, places, colours."""
    patches = Pixtral.patches

    def rope(dim: int, base: float = 10000.0, axes: tuple[int, int] = (1, 2), step: int = 2) -> Rope:
        found = make_rope(dim, base).frequencies
        both = found[::2] + found[1::2] if step == 2 else found
        return Rope(both, layout="norm", axes=axes[:1] * (dim // 4) + axes[1:] * (dim // 4))

    changes: dict[str, Any] = {
        "_rope": lambda dim: rope(dim, 50.0),
        "_rope by other axes": lambda dim: rope(dim, axes=(2, 1)),
        "_rope with pairs in order": lambda dim: rope(dim, step=1),
        "block_order": lambda rows, columns, side: np.arange(rows * columns),
        "Pixtral.alternating": "",
        "Pixtral.patches": lambda self, tile: patches(self, tile[..., ::-1]),
        "Pixtral.keep": lambda self, table: setattr(self, "_divides", np.zeros((1, 64), np.float32)),
    }
    want = recorded("mistral3")["rows0-0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{Pixtral.__module__}._rope", rope)
        assert abs(rows_with() - want).max() < 1e-5
    for what, change in changes.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{Pixtral.__module__}.{what.split()[0]}", change)
            assert abs(rows_with() - want).max() > FAR, what


def test_what_divides_and_ends_rows_counts() -> None:
    want = recorded("mistral3")["logprobs0"]
    model, mmproj = tower("mistral3")
    with LLM.load(model, mmproj=mmproj, threads=2, cache_type="f32") as llm:
        ((rows, end),) = pieces_of(llm, 0)
        assert (len(rows.rows), end) == (17, "[IMG_END]")  # three lines of five, two rows between them
        swapped = rows.rows.copy()
        swapped[[4, 5]] = swapped[[5, 4]]
        for first, changed, text in ((5000, swapped, end), (6000, rows.rows, "[IMG_BREAK]")):
            other = replace(rows, first=first, rows=changed)
            request = PromptRequest(prompt_with([[*other.ids, *ids_of(text)]]), 0)
            request.inserted = (other,)
            assert abs(log_probabilities(logits_of(llm, request)[0]) - want).max() > FAR


def projector(**keys: Any) -> Pixtral:
    found = projector_of(keys_of(projector_keys("mistral3") | keys, {}))
    assert isinstance(found, Pixtral)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pictures_are_scaled_as_by_transformers(shape: tuple[int, int]) -> None:
    whole, end = projector().pieces(Picture(picture(*shape)))
    assert end == "[IMG_END]"
    assert isinstance(whole, Picture)
    want, sides = recorded("pixtral_pictures"), "x".join(map(str, shape))
    if max(shape) > 96 * min(shape):  # transformers makes sides of no pixels of these
        assert sides not in want
        assert min(whole.height, whole.width) == 16
        return
    assert [whole.height, whole.width] == want[f"{sides} sides"].tolist()
    assert abs(pixel_sample(whole.pixels).astype(int) - want[sides].astype(int)).max() <= 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 96))
def test_every_picture_has_whole_blocks_within_the_edge(height: int, width: int, edge: int) -> None:
    of = projector()
    of.choose_edge(edge)
    h, w = of._fitted(height, width)
    assert h % 16 == w % 16 == 0
    assert min(h, w) >= 16
    assert h * w // 64 <= of.most_patches
    assert max(h, w) < edge + 16


def test_the_edge_can_be_chosen() -> None:
    for edge in (15, 97):
        with pytest.raises(ValueError, match=r"image_edge must be 16 \(a row's patches\) to 96 pixels"):
            projector().choose_edge(edge)


@pytest.mark.parametrize(
    ("entries", "without", "message"),
    [
        ({"vision.attention.head_count": 16}, "", "heads whose length four divides"),
        ({"vision.projection_dim": 63}, "", "expected 63 numbers as clip.vision.projection_dim, got 64"),
        ({"vision.spatial_merge_size": 3}, "", "mm.patch_merger.weight': expected 288 columns, got 128|columns"),
        ({}, "v.token_embd.img_break", "img_break"),
        ({}, "mm.2.weight", r"mm\.2\.weight"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, entries: dict[str, Any], without: str, message: str) -> None:
    changed = {f"clip.{key}": value for key, value in entries.items()}
    path = copy_of(tower("mistral3")[1], tmp_path / "x.gguf", changed, without=without)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)
