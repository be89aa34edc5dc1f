"""Pictures beside transformers' own processors, what users may give, and what is refused."""

from __future__ import annotations

import base64
import random
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from llamaq.errors import ImageError
from llamaq.models.keys import Keys
from llamaq.vision import preprocess
from llamaq.vision.preprocess import picture_of
from llamaq.vision.projectors import projector_of
from vision_cases import PIXELS, SHAPES, SIZE, picture, recorded

RECORDED = recorded("pictures")
KEYS: dict[str, Any] = {
    "vision.image_size": SIZE, "vision.patch_size": 8, "vision.embedding_length": 32, "vision.block_count": 2,
    "vision.attention.head_count": 2, "vision.attention.layer_norm_epsilon": 1e-6, "vision.projection_dim": 64,
    "vision.image_mean": [0.5] * 3, "vision.image_std": [0.5] * 3, "use_gelu": True,
}  # fmt: skip


def pieces_of(kind: str, source: Any, **keys: Any) -> list[Any]:
    given = {f"clip.{key}": value for key, value in {**KEYS, "projector_type": kind, **keys}.items()}
    return [*projector_of(Keys(given, {}, "clip")).pieces(picture_of(source))]


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["gemma3", "idefics3"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_are_those_of_transformers(kind: str, shape: tuple[int, int]) -> None:
    width, height = shape
    pieces = pieces_of(kind, picture(width, height), **{"vision.preproc_image_size": 2 * SIZE})
    tiles = [piece.pixels for piece in pieces if not isinstance(piece, str)]
    assert {tile.shape for tile in tiles} == {(SIZE, SIZE, 3)}
    found = np.stack(tiles)[:, PIXELS[:, 0], PIXELS[:, 1]].astype(int)
    want = RECORDED[f"{kind} {width}x{height}"].astype(int)
    assert found.shape == want.shape
    assert abs(found - want).max() <= 1


def test_what_stands_around_tiles() -> None:
    texts = [piece if isinstance(piece, str) else "#" for piece in pieces_of("gemma3", picture(30, 20))]
    assert "".join(texts) == "\n\n<start_of_image>#<end_of_image>\n\n"
    mark = "<fake_token_around_image>"
    texts = [piece if isinstance(piece, str) else "#" for piece in pieces_of("idefics3", picture(30, 20))]
    assert "".join(texts) == f"{mark}<global-img>#{mark}"
    wide = pieces_of("idefics3", picture(300, 150), **{"vision.preproc_image_size": 192})
    assert "".join(piece if isinstance(piece, str) else "#" for piece in wide) == (
        f"{mark}<row_1_col_1>#{mark}<row_1_col_2>#{mark}<row_1_col_3>#\n"
        f"{mark}<row_2_col_1>#{mark}<row_2_col_2>#{mark}<row_2_col_3>#\n\n{mark}<global-img>#{mark}"
    )


def test_all_that_a_picture_may_be_given_as(tmp_path: Path) -> None:
    pixels = picture(9, 5)
    data = encoded(Image.fromarray(pixels))
    path = tmp_path / "a picture"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (pixels, data, bytearray(data), path, url, Image.fromarray(pixels)):
        np.testing.assert_array_equal(picture_of(source).pixels, pixels)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(picture_of(grey).pixels, np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(picture_of(grey[..., None]).pixels, picture_of(grey).pixels)


def test_modes_of_pictures() -> None:
    """Palettes, grey, bits, depths, what shines through (white), and the first frame."""
    pixels = picture(8, 6)
    image = Image.fromarray(pixels)
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:3] = 255
    clear = Image.fromarray(np.dstack([pixels, alpha]))
    want = pixels.copy()
    want[3:] = 255
    np.testing.assert_array_equal(picture_of(encoded(clear)).pixels, want)
    np.testing.assert_array_equal(picture_of(np.dstack([pixels, alpha])).pixels, want)
    np.testing.assert_array_equal(picture_of(clear.convert("RGBa")).pixels, want)
    grey = clear.convert("LA")
    np.testing.assert_array_equal(picture_of(grey.convert("La")).pixels, picture_of(grey).pixels)
    few = image.quantize(16)
    np.testing.assert_array_equal(picture_of(encoded(few)).pixels, np.asarray(few.convert("RGB")))
    seen = picture_of(encoded(few, transparency=few.getpixel((0, 0)))).pixels
    assert seen[0, 0].tolist() == [255, 255, 255]
    for mode in ("L", "1", "CMYK"):
        other = image.convert(mode)
        data = encoded(other, "JPEG" if mode == "CMYK" else "PNG")
        np.testing.assert_array_equal(picture_of(data).pixels, np.asarray(Image.open(BytesIO(data)).convert("RGB")))
    deep = Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300)
    np.testing.assert_allclose(picture_of(encoded(deep)).pixels[..., 0], np.asarray(deep) / 257, atol=0.51)
    moving = encoded(image, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    np.testing.assert_array_equal(picture_of(moving).pixels, np.asarray(Image.open(BytesIO(moving)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int) -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12] = 255  # bright in one corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = picture_of(encoded(Image.fromarray(pixels), exif=exif)).pixels
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert found.shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))
    assert [(y, x) for y in (0, -1) for x in (0, -1) if found[y, x, 0] == 255] == [corners[orientation]]


def bomb(width: int, height: int) -> bytes:
    """The beginning of a PNG file that says so many pixels."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunk = (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")
    body = b"IDAT" + zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "damaged, or is none of PNG, JPEG, WEBP, GIF, BMP"),
        (b"GGUF" * 100, "damaged, or is none"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged, or is none"),
        (bomb(9000, 9000), "may have 1 to 67108864 pixels, got 9000 x 9000"),
        (bomb(60000, 60000), "damaged, or is none"),
        (bomb(30, 30), "damaged"),
        (bomb(1 << 17, 1), "a side of a picture may have 65536 pixels, got 131072 x 1"),
        (np.zeros((65537, 1), np.uint8), "a side of a picture may have 65536 pixels, got 1 x 65537"),
        (Image.open(BytesIO(bomb(30, 30))), "the picture cannot be read: "),
        (Path("no/such.png"), "such.png: the picture cannot be read: No such file"),
        (Path("/"), "cannot be read"),
        ("cat.png", "must be a data URL, .* a file is given as pathlib.Path, got 'cat.png'"),
        ("https://example.org/cat.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png,abc", "must be a data URL"),
        ("data:image/png;base64,a%b", "is no base64"),
        ("data:image/png;base64,aGk=", "damaged"),
        (np.zeros((2, 2)), "must be uint8 .* got float64 of shape"),
        (np.zeros((2, 2, 2), np.uint8), "must be uint8"),
        (np.zeros((0, 5, 3), np.uint8), "may have 1 to 67108864 pixels, got 5 x 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_picture(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        picture_of(source)


def test_other_things_are_type_errors() -> None:
    for source in (None, 5, [1], {"url": "x"}):
        with pytest.raises(TypeError, match=r"expected a data URL, bytes, a pathlib.Path"):
            picture_of(source)


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(picture(20, 10)))
    monkeypatch.setattr(preprocess, "MOST_BYTES", len(data) - 1)
    (tmp_path / "x.png").write_bytes(data)
    sources: list[Any] = [data, tmp_path / "x.png", "data:;base64," + base64.b64encode(data).decode()]
    for source in sources:
        named = "x.png: a picture " if isinstance(source, Path) else "^a picture "
        with pytest.raises(ImageError, match=f"{named}may have {len(data) - 1} bytes, got more"):
            picture_of(source)
    monkeypatch.setattr(preprocess, "MOST_BYTES", len(data))
    monkeypatch.setattr(preprocess, "MOST_PIXELS", 199)
    sources = [data, picture(20, 10), Image.fromarray(picture(20, 10))]
    for source in sources:
        with pytest.raises(ImageError, match="may have 1 to 199 pixels, got 20 x 10"):
            picture_of(source)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_damage_is_an_error_or_a_picture(format: str) -> None:
    """Files with changed, lost and added bytes: an ``ImageError`` or pixels, nothing else."""
    rng = random.Random(format)
    data = encoded(Image.fromarray(picture(40, 30)), format)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(min(len(damaged), rng.choice((40, len(damaged)))))] = rng.randrange(256)
        damaged = damaged[: rng.randrange(len(damaged))] if rng.random() < 0.3 else damaged
        try:
            found = picture_of(bytes(damaged)).pixels
            assert found.dtype == np.uint8
            assert found.ndim == 3
        except ImageError:
            refused += 1
    assert refused > 5


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImageError, match=r"pip install 'llamaq\[images\]'"):
        picture_of(b"x")


def patches_of(tile: NDArray[np.uint8], **keys: Any) -> NDArray[np.float32]:
    given = {f"clip.{key}": value for key, value in {**KEYS, "projector_type": "idefics3", **keys}.items()}
    return projector_of(Keys(given, {}, "clip")).patches(tile).rows


def test_patches_stand_block_by_block_and_channel_by_channel() -> None:
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[..., 0] = np.arange(16)[:, None] * 16 + np.arange(16)
    tile[..., 1] = 255
    keys = {"vision.image_size": 16, "vision.patch_size": 4, "vision.projector.scale_factor": 2}
    found = patches_of(tile, **keys).reshape(16, 3, 4, 4)
    assert (found[:, 1] == 1).all()
    assert (found[:, 2] == -1).all()
    first = ((found[:, 0, 0, 0] + 1) * 127.5).round().astype(int)
    corners = [(y * 4 * 16 + x * 4) for y, x in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]]
    assert first[:8].tolist() == corners
    assert ((found[0, 0] + 1) * 127.5).round().astype(int).tolist() == tile[:4, :4, 0].tolist()
