"""LLaVA 1.5: squares as transformers makes them, what moves rows, and files as old converters wrote them
(test_towers.py compares rows and log-probabilities)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq import LLM
from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.vision.classed import Classed
from llamaq.vision.encoder import traced
from llamaq.vision.hparams import keys_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import mlp, projector_of
from llamaq.vision.projectors.mlp import Mlp
from seen import F32, encoded
from tiny_towers import projector_keys, projector_tensors, tower
from tiny_vision import copy_of
from vision_cases import SHAPES, SIZE, picture, pixel_sample, recorded

FAR = 1e-3  # a hundred times what rows differ by from those of transformers


def rows_with(path: Path | None = None) -> F32:
    return encoded(path or tower("llava")[1])[0]


def test_without_a_feature_rows_are_others(tmp_path: Path) -> None:
    """Whose place is the class's, the class itself, which rows are read, the square's colour, colours, the activation,
    layers."""
    patches, step, keep, filled = Classed.patches, Classed.step, Classed.keep, mlp._filled

    def without_class(self: Any, table: Any) -> None:
        keep(self, table)
        self._added[-1] = 0

    def class_read(self: Any, read: Any) -> Any:
        found = step(self, read)
        found.wanted[:] = np.roll(found.wanted, 1)
        return found

    changes: dict[str, Any] = {
        "Mlp.class_first": False,
        "Mlp.keep": without_class,
        "Mlp.step": class_read,
        "Mlp.patches": lambda self, tile: patches(self, tile[..., ::-1]),
        "_filled": lambda picture, mean: filled(picture, (0.0,) * 3),
    }
    want = recorded("llava")["rows0-0"]
    assert abs(rows_with() - want).max() < 1e-5
    for what, change in changes.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{Mlp.__module__}.{what}", change)
            assert abs(rows_with() - want).max() > FAR, what
    for entries in ({"clip.use_gelu": True}, {"clip.vision.block_count": 2}, {"clip.vision.image_crop": True}):
        changed = copy_of(tower("llava")[1], tmp_path / "x.gguf", entries)
        assert abs(rows_with(changed) - want).max() > FAR, entries


def test_files_of_old_converters(tmp_path: Path) -> None:
    """They name no kind, exchange the names of two matrices, tell the rows of CLIP's own projector, and may have the
    number of the layer whose states are read."""
    keys = projector_keys("llava")
    del keys["clip.vision.projector_type"]
    keys |= {"clip.has_llava_projector": True, "clip.use_gelu": False, "clip.vision.projection_dim": 24}
    keys["clip.vision.feature_layer"] = [keys["clip.vision.block_count"]]
    names = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    f32, tensors = format_by_name("F32"), []
    for name, x in projector_tensors("llava").items():
        parts = name.split(".")
        old = ".".join(names.get(part, part) for part in parts)
        tensors.append(TensorData(old, f32, x.shape, x))
    write_gguf(tmp_path / "old.gguf", keys, tensors)
    np.testing.assert_array_equal(rows_with(tmp_path / "old.gguf"), rows_with())


def projector(**keys: Any) -> Mlp:
    found = projector_of(keys_of(projector_keys("llava") | {f"clip.vision.{k}": x for k, x in keys.items()}, {}))
    assert isinstance(found, Mlp)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_squares_are_those_of_transformers(shape: tuple[int, int]) -> None:
    """Filled up, or with what lies outside of the middle cut off."""
    want, sides = recorded("llava_pictures"), "x".join(map(str, shape))
    for crops, way in ((False, ""), (True, " cropped")):
        (square,) = projector(image_size=SIZE, image_crop=crops).pieces(Picture(picture(*shape)))
        assert isinstance(square, Picture)
        assert square.pixels.shape == (SIZE, SIZE, 3)
        assert abs(pixel_sample(square.pixels).astype(int) - want[f"{sides}{way}"].astype(int)).max() <= 1, way


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2, 31, 4096, 5000, 60000]), st.sampled_from([1, 3, 40, 300]), st.booleans())
def test_long_pictures_become_squares(long: int, short: int, wide: bool) -> None:
    """Nothing is made whose sides are both as long as theirs."""
    grey = Picture(np.full((short, long, 3) if wide else (long, short, 3), 90, np.uint8))
    for crops in (True, False):
        (square,) = projector(image_crop=crops).pieces(grey)
        assert isinstance(square, Picture)
        assert square.pixels.shape == (32, 32, 3)
        assert (square.pixels == 90).all() or not crops
    assert mlp._filled(grey, (0.0,) * 3).width == min(max(long, short), 4096)


def test_a_long_picture_is_nearly_what_it_would_be_whole() -> None:
    """One that is made smaller first: a grey level or two lie between this and what one scaling gives."""
    pixels = picture(6000, 700)
    (square,) = projector().pieces(Picture(pixels))
    whole = np.full((6000, 6000, 3), [int(of * 255) for of in projector().hp.mean], np.uint8)
    whole[2650:3350] = pixels
    want = Picture(whole).resized(32, 32, "bicubic")
    assert isinstance(square, Picture)
    assert abs(square.pixels.astype(int) - want.pixels.astype(int)).max() <= 2


def test_a_picture_in_a_chat() -> None:
    """Its rows stand where the template has its mark, and nothing beside them."""
    model, mmproj = tower("llava")
    template = "{% for m in messages %}a{{ m.content }}b{% endfor %}"
    said = [{"role": "user", "content": [{"type": "image", "image": picture(30, 20)}, {"type": "text", "text": "c"}]}]
    with LLM.load(model, mmproj=mmproj, threads=2) as llm:
        found = llm.chat(said, template=template, max_tokens=1)
        alone = len(llm.tokenizer.encode("a")) + len(llm.tokenizer.encode("cb", add_special=False))
        assert found.usage.prompt_tokens == alone + 16
        with pytest.raises(ValueError, match="image_edge must be left out: projectors of the kind mlp have no choice"):
            LLM.load(model, mmproj=mmproj, image_edge=64)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"projector_type": "ldp", "vision.projector_type": None}, "is 'ldp'; llamaq has"),
        ({"projector_type": "ldpv2", "vision.projector_type": None}, "is 'ldpv2'; llamaq has"),
        ({"vision.feature_layer": [2]}, r"feature_layer is \[2\]; expected different layers, the last of the 3"),
        ({"vision.feature_layer": [4]}, "feature_layer is 4; expected an integer from 1 to 3"),
        ({"vision.image_size": 48}, "expected 37 rows of 32 columns"),
        ({"vision.image_crop": 1}, "image_crop is 1; expected true or false"),
        ({"vision.image_stretch": 1}, "image_stretch is 1; expected true or false"),
        ({"vision.block_count": 4}, "no tensor 'v.blk.3"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    changed = {f"clip.{key}": value for key, value in entries.items()}
    path = copy_of(tower("llava")[1], tmp_path / "x.gguf", changed)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mm.3.weight", "got one with Yi-VL's projector"), ("v.post_ln.weight", "got one with a norm behind the last")],
)
def test_other_projectors_of_the_kind_are_refused(name: str, message: str) -> None:
    shapes = {key: x.shape for key, x in projector_tensors("llava").items()} | {name: (32,)}
    with pytest.raises(ModelError, match=message):
        projector_of(keys_of(projector_keys("llava"), shapes))


@pytest.mark.parametrize("name", ["v.class_embd", "mm.0.weight", "mm.2.weight", "v.pre_ln.weight"])
def test_a_missing_tensor_is_an_error(tmp_path: Path, name: str) -> None:
    path = copy_of(tower("llava")[1], tmp_path / "x.gguf", {}, without=name)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=name):
        traced(file)
