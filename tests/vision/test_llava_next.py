"""LLaVA 1.6 and Granite Vision: tiles, and the order of their rows, as transformers has them, and what files may say
(test_towers.py compares rows and log-probabilities)."""

from __future__ import annotations

from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq import LLM
from llamaq.engine.engine import Engine
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.vision import anyres
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.hparams import keys_of
from llamaq.vision.patches import I64, Mosaic
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import llava_next, projector_of
from llamaq.vision.projectors.llava_next import LlavaNext
from seen import encoded
from tiny_towers import CANVASES, LAYERS, projector_keys, projector_tensors, tower
from tiny_vision import copy_of
from vision_cases import PIXELS, SHAPES, SIZE, picture, recorded

LARGE = {"vision.image_size": SIZE, "vision.image_grid_pinpoints": [SIZE * n for each in CANVASES for n in each]}
"""Keys of a projector with larger tiles, of 64 patches each."""


def projector(name: str = "llavanext", *, without: str = "", **keys: Any) -> LlavaNext:
    given = projector_keys(name) | {f"clip.{key}": value for key, value in keys.items()}
    shapes = {key: x.shape for key, x in projector_tensors(name).items() if key != without}
    found = projector_of(keys_of({key: value for key, value in given.items() if value is not None}, shapes))
    assert isinstance(found, LlavaNext)
    return found


def mosaic_of(pixels: Any, of: LlavaNext) -> Mosaic:
    (found,) = of.pieces(Picture(pixels))
    assert isinstance(found, Mosaic)
    return found


def differs(shape: tuple[int, int]) -> bool:
    """Whether tiles or the order of rows are others than transformers'."""
    want, sides = recorded("llavanext_pictures"), "x".join(map(str, shape))
    found = mosaic_of(picture(*shape), projector(**LARGE))
    tiles = np.stack(found.tiles)[:, PIXELS[:, 0], PIXELS[:, 1]].astype(int)
    return not (
        np.array_equal(found.order, want[f"{sides} order"])
        and tiles.shape == want[sides].shape
        and abs(tiles - want[sides].astype(int)).max() <= 1
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_and_the_order_of_rows_are_those_of_transformers(shape: tuple[int, int]) -> None:
    assert not differs(shape)


def test_without_a_feature_they_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which canvas it is, where the picture lies on it, what lies beside it, lines through tiles, their ends, the
    whole picture before them."""
    lines_of, pieces = anyres.lines_of, LlavaNext.pieces

    def at_the_corner(picture: Picture, canvas: tuple[int, int]) -> Picture:
        found = anyres.on_middle(picture, canvas)
        return Picture(np.roll(found.pixels, 5, axis=(0, 1)))

    def by_tile(canvas: tuple[int, int], side: int) -> I64:
        lines = lines_of(canvas, side)
        return np.arange(lines.size).reshape(lines.shape)

    def whole_last(self: Any, picture: Picture) -> Any:
        (found,) = pieces(self, picture)
        assert isinstance(found, Mosaic)
        return [Mosaic((*found.tiles[1:], found.tiles[0]), found.order)]

    changes: dict[str, Any] = {
        "best_canvas": lambda picture, canvases: canvases[-1],
        "on_middle": at_the_corner,
        "kept": lambda lines, picture: lines,
        "lines_of": by_tile,
        "LlavaNext._ends_lines": False,
        "LlavaNext.pieces": whole_last,
    }
    for what, change in changes.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{llava_next.__name__}.{what}", change)
            assert any(differs(shape) for shape in SHAPES[5:9]), what


def test_colours_beside_the_picture_are_black() -> None:
    tiles = mosaic_of(np.full((10, 90, 3), 200, np.uint8), projector()).tiles
    assert len(tiles) == 4
    assert (tiles[0] == 200).all()
    assert {*np.unique(np.stack(tiles[1:]))} == {0, 200}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_lines_of_pictures_of_all_shapes(width: int, height: int) -> None:
    """Each line has as many patches and ends; those that lie over the picture are there."""
    of = projector()
    canvas = anyres.best_canvas((height, width), of.canvases)
    order = of._order((canvas[0] // 32, canvas[1] // 32), (height, width))
    assert order[:16].tolist() == [*range(16)]
    lines, ends = order[16:], np.nonzero(order == -1)[0]
    scale = min(canvas[0] / height, canvas[1] / width) / 8
    least = floor(height * scale) * floor(width * scale)
    assert len(lines) - len(ends) >= least
    assert len({*lines[lines >= 0]}) == len(lines) - len(ends)
    if len(ends):
        assert len(lines) % len(ends) == 0
        assert (np.diff(ends) == len(lines) // len(ends)).all()


@pytest.mark.parametrize(("merging", "rows"), [("flat", 80), ("spatial", 80), ("spatial_unpad", 16 + 4 * 9)])
def test_ways_to_merge(merging: str, rows: int) -> None:
    order = mosaic_of(picture(80, 48), projector(**{"vision.mm_patch_merge_type": merging})).order
    assert len(order) == rows
    flat = [*range(80)]
    assert (order.tolist() == flat) == (merging == "flat")
    assert (sorted(order.tolist()) == flat) == (merging != "spatial_unpad")
    if merging == "spatial":  # the first line goes on in the second tile
        assert order[16:24].tolist() == [16, 17, 18, 19, 32, 33, 34, 35]


def test_what_files_leave_out() -> None:
    """The way to merge: with a row for ends of lines there are such, without one rows stand tile by tile."""
    assert projector(**{"vision.mm_patch_merge_type": None}).merging == "spatial_unpad"
    without = projector(without="model.image_newline", **{"vision.mm_patch_merge_type": None})
    assert without.merging == "flat"
    unpadded = projector(without="model.image_newline")
    assert len(mosaic_of(picture(80, 48), unpadded).order) == 16 + 4 * 8


def test_an_edge_leaves_fewer_tiles() -> None:
    found = []
    for edge in (95, 63, 32):
        of = projector()
        of.choose_edge(edge)
        found.append((len(of.canvases), len(mosaic_of(picture(80, 48), of).tiles)))
    assert found == [(3, 5), (0, 1), (0, 1)]
    assert mosaic_of(picture(80, 48), of).order.tolist() == [*range(16), -1]
    assert of.summary == "up to 17 rows of 64 floats: a picture as a whole, 32 x 32 pixels"
    for edge in (31, 97):
        with pytest.raises(ValueError, match=r"image_edge must be 32 \(a tile\) to 96 pixels"):
            projector().choose_edge(edge)


def test_what_it_says_of_itself() -> None:
    assert projector().summary == (
        "up to 88 rows of 64 floats: a picture as a whole, 32 x 32 pixels, and in up to 4 tiles"
    )


def test_a_picture_is_known_again_and_its_tiles_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Engine.forward

    def telling(self: Engine, step: Any, cache: Any, *, progress: Any) -> Any:
        progress(4, 4)
        return forward(self, step, cache)

    monkeypatch.setattr(Engine, "forward", lambda self, *rest, progress=None: (
        telling(self, *rest, progress=progress) if progress else forward(self, *rest)))  # fmt: skip
    with GGUFFile.open(tower("llavanext")[1]) as file:
        of = traced(file)
        encoder = Encoder(file, of, columns=64, first_id=2048, threads=1)
        told: list[tuple[int, int]] = []
        ((first,),) = encoder.pieces_of([picture(80, 48)], lambda done, total: told.append((done, total)))
        assert told[-1] == (5 * LAYERS, 5 * LAYERS)
        assert [done for done, _ in told] == [LAYERS * n for n in (1, 2, 3, 4, 5, 5)]
        assert encoder.pieces(picture(80, 48)) == [first]
        (other,) = encoder.pieces(picture(80, 48, 1))
        assert not isinstance(first, str)
        assert not isinstance(other, str)
        assert [len(each.ids) for each in (first, other)] == [52, 52]
        assert other.first == first.first + 52
        # The same tiles in another order are another picture.
        tile = encoder.rows(picture(32, 32))
        assert encoder.rows(Mosaic((picture(32, 32),), np.arange(16)[::-1])).ids != tile.ids


def test_a_picture_in_a_chat() -> None:
    model, mmproj = tower("llavanext")
    template = "{% for m in messages %}a{{ m.content }}b{% endfor %}"
    said = [{"role": "user", "content": [{"type": "image", "image": picture(80, 48)}, {"type": "text", "text": "c"}]}]
    with LLM.load(model, mmproj=mmproj, threads=2) as llm:
        found = llm.chat(said, template=template, max_tokens=1)
        alone = len(llm.tokenizer.encode("a")) + len(llm.tokenizer.encode("cb", add_special=False))
        assert found.usage.prompt_tokens == alone + 52
    with LLM.load(model, mmproj=mmproj, image_edge=32, threads=2) as llm:
        assert llm.chat(said, template=template, max_tokens=1).usage.prompt_tokens == alone + 17


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"image_grid_pinpoints": [32]}, "expected heights and widths of whole tiles of 32 pixels"),
        ({"image_grid_pinpoints": [32, 40]}, r"is \[32, 40\]; expected heights and widths of whole tiles"),
        ({"image_grid_pinpoints": [0, 32]}, "is 0; expected an integer from 1 to 8192"),
        ({"image_grid_pinpoints": [2**31 - 1, 32]}, "expected an integer from 1 to 8192"),
        ({"image_grid_pinpoints": 32}, "expected an array of integers"),
        ({"image_grid_pinpoints": [32, 32] * 257}, "expected heights and widths"),
        ({"image_grid_pinpoints": [288, 256]}, "expected up to 64 tiles"),
        ({"mm_patch_merge_type": "spatial_pool"}, "expected one of spatial_unpad, spatial, flat"),
        ({"mm_patch_merge_type": 1}, "expected a string"),
        ({"feature_layer": [3, 3]}, r"is \[3, 3\]; expected different layers, the last of the 3"),
        ({"feature_layer": [2, 3]}, "expected 64 columns|mm.0"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    changed = {f"clip.vision.{key}": value for key, value in entries.items()}
    path = copy_of(tower("llavanext")[1], tmp_path / "x.gguf", changed)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


def test_a_row_for_ends_of_lines_is_as_wide_as_others(tmp_path: Path) -> None:
    changed = {"clip.vision.projection_dim": 64}
    path = copy_of(tower("llavanext")[1], tmp_path / "x.gguf", changed)
    with GGUFFile.open(path) as file:
        of = projector()
        with pytest.raises(ModelError, match=r"'model.image_newline': expected 64 numbers, as rows have, got 5"):
            of.keep(lambda name: np.zeros(5, np.float32) if "newline" in name else traced(file).tensors.table(name))


FAR = 1e-3
"""A hundred times what rows differ by from those of transformers."""


def test_siglip_without_a_feature_makes_other_rows(tmp_path: Path) -> None:
    """Which states are read and in which order, places of patches, the activation."""
    own = tower("granitev")[1]
    want = recorded("granitev")["rows0-0"]

    def found(path: Path) -> Any:
        return encoded(path)[0]

    assert abs(found(own) - want).max() < 1e-5
    for entries in ({"clip.vision.feature_layer": [3, 1]}, {"clip.vision.feature_layer": [2, 3]},
                    {"clip.use_gelu": False}):  # fmt: skip
        assert abs(found(copy_of(own, tmp_path / "x.gguf", entries)) - want).max() > FAR, entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlavaNext, "row_order", lambda self, name, shape: None if "position" not in name
                      else np.arange(16)[::-1])  # fmt: skip
        assert abs(found(own) - want).max() > FAR


def test_siglip_on_one_square(tmp_path: Path) -> None:
    """A tower without a class whose file lists no canvases, as LLaVAs of others have them."""
    without = {"clip.vision.image_grid_pinpoints": None, "clip.vision.mm_patch_merge_type": None}
    path = copy_of(tower("granitev")[1], tmp_path / "x.gguf", without)
    rows, whole = encoded(path)[0], encoded(copy_of(path, tmp_path / "y.gguf", {"clip.vision.image_stretch": True}))[0]
    assert rows.shape == whole.shape == (16, 64)
    np.testing.assert_array_equal(whole, encoded(tower("granitev")[1])[0][:16])
    assert abs(rows - whole).max() > FAR
