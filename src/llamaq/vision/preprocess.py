"""Pictures: what users give, read with Pillow within limits, and scaled."""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import shown
from llamaq.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "MOST_BYTES", "MOST_PIXELS", "MOST_SIDE", "Picture", "PictureSource", "picture_of"]

MOST_BYTES = 1 << 26
MOST_PIXELS = 1 << 26
MOST_SIDE = 1 << 16
"""What scaling takes in memory grows with the longer side: a line of ``MOST_PIXELS`` would take gigabytes."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Of the many that Pillow reads; some of the others start programs or are rarely looked after."""

PictureSource: TypeAlias = "str | bytes | PathLike[str] | NDArray[np.uint8] | Image"
"""A data URL, a file's bytes, its path (a ``Path``; a plain text is never one), an array, or Pillow's image."""

_EXPECTED = "expected a data URL, bytes, a pathlib.Path, a NumPy array or a Pillow image"
_FILTERS = {"bilinear": 2, "bicubic": 3, "lanczos": 1}  # numbers of PIL.Image.Resampling
_DEEP = ("I", "F")  # modes of more than 8 bits
_warned = Lock()


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels of an upright picture: uint8 (height, width, 3), red, green and blue."""

    pixels: NDArray[np.uint8]

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def resized(
        self, width: int, height: int, how: Literal["bilinear", "bicubic", "lanczos"],
        box: tuple[float, float, float, float] | None = None,
    ) -> Picture:  # fmt: skip
        """The picture with other sides, whatever becomes of its proportions; with a ``box`` (left, top, right and
        bottom, in pixels) what lies in it."""
        if (width, height) == (self.width, self.height) and box is None:
            return self
        image = _pillow().fromarray(self.pixels).resize((width, height), _FILTERS[how], box)
        return Picture(np.asarray(image, np.uint8))

    def cut(self, x: int, y: int, width: int, height: int) -> Picture:
        """A part of it."""
        return Picture(self.pixels[y : y + height, x : x + width])


def picture_of(source: PictureSource) -> Picture:
    """The first frame of a picture, turned as its EXIF data say; what shines through is white.

    Raises ``ImageError`` for what is no picture, is damaged or exceeds ``MOST_BYTES`` or ``MOST_PIXELS``, ``TypeError``
    for what can be none.
    """
    if isinstance(source, np.ndarray):
        return Picture(_of_array(source))
    if isinstance(source, str):
        source = _of_data_url(source)
    elif isinstance(source, PathLike):
        return Picture(_of_file(Path(source)))
    if isinstance(source, bytes | bytearray):
        return Picture(_of_bytes(bytes(source)))
    if isinstance(source, _pillow().Image):
        with _damage_told("the picture cannot be read"):
            return Picture(_of_image(source))
    raise TypeError(f"{_EXPECTED}, got {shown(source)}")


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError:
        raise ImageError("pictures need Pillow: pip install 'llamaq[images]'") from None
    return PIL.Image


def _of_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            "an array must be uint8 of shape (height, width), or with 1, 3 or 4 channels behind it, "
            f"got {array.dtype} of shape {array.shape}"
        )
    _check_size(array.shape[1], array.shape[0])
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _of_image(_pillow().fromarray(np.ascontiguousarray(flat)))


def _of_data_url(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise ImageError(
            "a picture as text must be a data URL, data:image/png;base64,..., for nothing is fetched; a file is given "
            f"as pathlib.Path, got {url!r:.60}"
        )
    if len(data) > MOST_BYTES // 3 * 4 + 4:
        raise ImageError(f"a picture may have {MOST_BYTES} bytes, got more")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the data URL of a picture is no base64: {error}") from None


def _of_file(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{path}: the picture cannot be read: {error.strerror or error}") from None
    try:
        return _of_bytes(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _of_bytes(data: bytes) -> NDArray[np.uint8]:
    if len(data) > MOST_BYTES:
        raise ImageError(f"a picture may have {MOST_BYTES} bytes, got more")
    pillow = _pillow()
    # The filters of warnings are the process's; Pillow warns of sizes that are refused here anyway.
    with _warned, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        what = f"the picture is damaged, or is none of {', '.join(FORMATS)}"
        with _damage_told(what), pillow.open(BytesIO(data), formats=FORMATS) as image:
            return _of_image(image)


@contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """Pillow raises errors of any class for a damaged file, also where an image of its own reads it only now."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"{what}: {error!s:.200}") from None


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MOST_PIXELS:
        raise ImageError(f"a picture may have 1 to {MOST_PIXELS} pixels, got {width} x {height}")
    if max(width, height) > MOST_SIDE:
        raise ImageError(f"a side of a picture may have {MOST_SIDE} pixels, got {width} x {height}")


def _of_image(image: Image) -> NDArray[np.uint8]:
    from PIL import ImageOps

    _check_size(*image.size)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(_DEEP):
        deep = np.asarray(image)
        # Sixteen bits are the usual depth of such files.
        image = _pillow().fromarray((np.clip(deep, 0, 65535) / 257).round().astype(np.uint8))
    if "a" in image.getbands():  # the colours are multiplied with what does not shine through
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = _pillow().new("RGBA", image.size, (255, 255, 255, 255))
        image = _pillow().alpha_composite(white, image)
    return np.array(image.convert("RGB"), np.uint8)
