"""Gemma 4: what moves rows and logits, pictures as transformers scales them, and files that contradict themselves
(test_towers.py compares rows and log-probabilities)."""

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
from llamaq.serving.reading import PromptRequest
from llamaq.vision.encoder import traced
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors.gemma4v import Gemma4V
from llamaq.vision.vit import square_rope
from seen import F32, encoded, log_probabilities, logits_of, reading, rows_of
from tiny_towers import projector_keys, projector_tensors, tower
from tiny_vision import copy_of
from vision_cases import SHAPES, ids_of, picture, pixel_sample, prompt_with, recorded

KINDS = ["gemma4e", "gemma4l"]
FAR = 1e-3  # a hundred times what rows differ by from those of transformers


def rows_with(name: str, path: Path | None = None) -> F32:
    return encoded(path or tower(name)[1])[0]


@pytest.mark.parametrize("name", KINDS)
def test_without_a_feature_rows_are_others(name: str) -> None:
    """Ropes and their axes, the order within heads and of patches, positions, colours."""
    patches = Gemma4V.patches
    changes: dict[str, Any] = {
        "square_rope": lambda dim, base, axes: square_rope(dim, 1e4, axes=axes),
        "square_rope of others": lambda dim, base, axes: square_rope(dim, base, axes=axes[::-1]),
        "block_order": lambda rows, columns, side: np.arange(rows * columns),
        "row_order": lambda self, name, shape: None,
        "_positions": lambda self, side: np.zeros((2, side, 32), np.float32),
        "_positions of others": lambda self, side: self._table("v.position_embd.weight")[::-1, :side],
        "patches": lambda self, tile: patches(self, tile[..., ::-1]),
    }
    want = recorded(name)["rows0-0"]
    for what, change in changes.items():
        place = what.split()[0]
        where = Gemma4V if hasattr(Gemma4V, place) else "llamaq.vision.projectors.gemma4v"
        with pytest.MonkeyPatch.context() as patch:
            if isinstance(where, str):
                patch.setattr(f"{where}.{place}", change)
            else:
                patch.setattr(where, place, change)
            assert abs(rows_with(name) - want).max() > FAR, what


@pytest.mark.parametrize(
    "tensor", ["v.blk.0.attn_q.input_min", "v.blk.2.ffn_up.output_max", "v.blk.1.ffn_gate.input_max"]
)
def test_without_a_bound_rows_are_others(tmp_path: Path, tensor: str) -> None:
    path = copy_of(tower("gemma4e")[1], tmp_path / "x.gguf", {}, without=tensor)
    assert abs(rows_with("gemma4e", path) - recorded("gemma4e")["rows0-0"]).max() > FAR


def test_without_what_is_subtracted_rows_are_others(tmp_path: Path) -> None:
    path = copy_of(tower("gemma4l")[1], tmp_path / "x.gguf", {}, without="v.std_bias")
    assert abs(rows_with("gemma4l", path) - recorded("gemma4l")["rows0-0"]).max() > FAR


def test_who_sees_later_rows() -> None:
    """Rows of a picture see each other in large models alone, and there in layers with windows alone."""
    for name, together in (("gemma4e", False), ("gemma4l", True)):
        want = recorded(name)["logprobs0"]
        model, mmproj = tower(name)
        with LLM.load(model, mmproj=mmproj, threads=2, cache_type="f32") as llm:
            ((rows,),) = rows_of(llm, 0)
            assert rows.together is together
            changed = replace(rows, first=5000, together=not together)
            request = PromptRequest(prompt_with([[*ids_of("<|image>"), *changed.ids, *ids_of("<image|>")]]), 0)
            request.inserted = (changed,)
            assert abs(log_probabilities(logits_of(llm, request)[0]) - want).max() > FAR
    attention: Any = __import__("llamaq.plan.graph", fromlist=["Graph"]).Graph.attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "llamaq.plan.graph.Graph.attention", lambda *args, **more: attention(*args, **{**more, "ahead": True})
        )
        with LLM.load(model, mmproj=mmproj, threads=2, cache_type="f32") as llm:
            assert abs(log_probabilities(logits_of(llm, reading(llm, 0))[0]) - want).max() > FAR


def test_rows_have_the_further_inputs_of_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.models.gemma4._PADDING", 7)
    model, mmproj = tower("gemma4e")
    with LLM.load(model, mmproj=mmproj, threads=2, cache_type="f32") as llm:
        found = log_probabilities(logits_of(llm, reading(llm, 0))[0])
    assert abs(found - recorded("gemma4e")["logprobs0"]).max() > FAR


def projector(**keys: Any) -> Gemma4V:
    from llamaq.vision.hparams import keys_of
    from llamaq.vision.projectors import projector_of

    shapes = {name: x.shape for name, x in projector_tensors("gemma4e").items()} | {
        "v.position_embd.weight": (2, 1024, 32)
    }
    given = {key: value for key, value in {**projector_keys("gemma4e"), **keys}.items() if value is not None}
    found = projector_of(keys_of(given, shapes))
    assert isinstance(found, Gemma4V)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pictures_are_scaled_as_by_transformers(shape: tuple[int, int]) -> None:
    begin, whole, end = projector(**{"clip.vision.image_max_pixels": 70 * 24 * 24}).pieces(Picture(picture(*shape)))
    assert (begin, end) == ("<|image>", "<image|>")
    assert isinstance(whole, Picture)
    want, sides = recorded("gemma4_pictures"), "x".join(map(str, shape))
    assert [whole.height, whole.width] == want[f"{sides} sides"].tolist()
    assert abs(pixel_sample(whole.pixels).astype(int) - want[sides].astype(int)).max() <= 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(24, 792))
def test_every_picture_has_whole_blocks_within_the_limit(height: int, width: int, edge: int) -> None:
    of = projector()
    of.choose_edge(edge)
    h, w = of._fitted(height, width)
    assert h % 24 == w % 24 == 0
    assert 0 < h * w // 24**2 <= of.rows <= max(1, edge**2 // 24**2)


def test_so_many_rows_as_files_and_users_say() -> None:
    assert projector(**{"clip.vision.image_max_pixels": None}).rows == 280
    assert projector(**{"clip.vision.image_max_pixels": 10**8}).rows == 1024 // 3
    of = projector()
    for edge in (23, 793):
        with pytest.raises(ValueError, match=r"image_edge must be 24 \(a row's patches\) to 792 pixels"):
            of.choose_edge(edge)


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("gemma4e", {"vision.projector.scale_factor": 0}, "scale_factor is 0"),
        ("gemma4e", {"vision.attention.head_count": 16}, "heads whose length four divides"),
        ("gemma4e", {"vision.image_max_pixels": "x"}, "image_max_pixels is 'x'"),
        ("gemma4e", {"vision.projection_dim": 63}, "projection_dim is 63; expected"),
        ("gemma4l", {"vision.block_count": 4}, r"no tensor 'v\.blk\.3"),
        ("gemma4e", {"vision.block_count": 2**31 - 1}, r"no tensor 'v\.blk\.3"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, name: str, entries: dict[str, Any], message: str) -> None:
    path = copy_of(tower(name)[1], tmp_path / "x.gguf", {f"clip.{key}": value for key, value in entries.items()})
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


def test_bounds_that_are_none_are_errors() -> None:
    tensors = dict(projector_tensors("gemma4e"))
    for name, numbers, message in (
        ("v.blk.0.attn_q.input_min", [2.0], "expected no more than input_max"),
        ("v.blk.0.attn_q.input_min", [np.nan], "expected one number"),
        ("v.blk.0.attn_q.output_max", [1.0, 2.0], "expected one number"),
    ):
        changed = {**tensors, name: np.array(numbers, np.float32)}
        with pytest.raises(ModelError, match=message):
            projector().keep(changed.__getitem__)
    with pytest.raises(ModelError, match="expected two tables of 64 columns"):
        projector(**{"clip.vision.embedding_length": 64})
