"""A Hugging Face checkpoint: ``config.json``, the tokenizer's files, and tensors in one or many safetensors files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.files import MiB, refuse_pointer
from llamaq.convert.section import Section, read_json
from llamaq.convert.views import View
from llamaq.convert.weight_files import INDEX, refuse_adapter, weight_files
from llamaq.errors import ModelError

__all__ = ["DTYPES", "Checkpoint", "package"]

_PIECE = 1 << 18  # weights read at a time
_MOST = 16 * MiB
_MOST_TOKENIZER = 64 * MiB  # the largest known have 35
_BUFFERS = (".rotary_emb.inv_freq", ".position_ids")  # follow from the configuration, some as integers
DTYPES = ("F32", "F16", "BF16", "F64")


class Checkpoint:
    """``path`` is the folder, or the one safetensors file in it that counts.

    ``config`` is config.json, ``shapes`` maps the tensors' names to their shapes, (1,) for a number alone. Raises
    ModelError for a folder without these files, damaged ones, and weights in a type that is no float.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise ModelError(f"{path}: no such folder or file; give a folder with config.json and safetensors files")
        if path.is_file() and path.suffix != ".safetensors":
            raise ModelError(f"{path}: expected a folder or a safetensors file, got another; give the file's folder")
        refuse_adapter(path)
        self.config = self.json("config.json")
        if not self.config:
            raise ModelError(f"{self.folder}: expected a file config.json, got none; download the whole folder")
        quantized = self.config.section("quantization_config")
        self._mxfp4 = quantized.text("quant_method") == "mxfp4"
        if quantized and not self._mxfp4:
            raise ModelError(
                f"{self.folder}: expected weights in floating point, got quantized ones "
                f"({quantized.text('quant_method', 'unknown')}); convert the model that they were made from"
            )
        package("ml_dtypes")  # teaches NumPy bfloat16, which safetensors then finds
        self._open = package("safetensors").safe_open
        self._error: type[Exception] = package("safetensors").SafetensorError
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._numbers: set[str] = set()
        index = Section({}, INDEX) if path.is_file() else self.json(INDEX).section("weight_map")
        for file in weight_files(path, index):
            self._read_header(file)

    def json(self, name: str) -> Section:
        """A JSON file of the folder; empty where there is none."""
        return read_json(self.folder / name, _MOST_TOKENIZER if name == "tokenizer.json" else _MOST)

    def spans(self, view: View, together: int = 1) -> list[range]:
        """Rows of a view to read at a time: multiples of ``together``, and some hundred thousand weights."""
        count, *rest = view.shape
        step = max(1, _PIECE // int(np.prod(rest, dtype=np.int64)) // together) * together
        return [range(i, min(i + step, count)) for i in range(0, count, step)]

    def read(self, view: View, span: range) -> NDArray[np.float32]:
        """Rows of a view. Raises ModelError for values that are not finite; a number alone is a bound, which may be
        infinite."""
        name, part = view.name, view.part(span)
        try:
            if name in self._numbers:
                found = np.asarray(self._files[name].get_tensor(name)).reshape(1)
            else:
                found = np.asarray(self._files[name].get_slice(name)[tuple(_around(r) for r in part)])
        except (self._error, OSError) as error:
            raise ModelError(f"tensor {name!r}: cannot be read: {error}; download the file again") from None
        found = found[tuple(slice(None, None, r.step) for r in part)].reshape([len(r) for r in part[len(view.index) :]])
        with np.errstate(over="ignore"):  # what binary32 cannot hold becomes infinite
            found = np.ascontiguousarray((found.T if view.transposed else found).astype(np.float32))
        if np.isnan(found).any() or (name not in self._numbers and np.isinf(found).any()):
            raise ModelError(
                f"tensor {name!r}: expected finite weights, got infinite ones or NaN in rows {span.start} to "
                f"{span.stop - 1}; download the file again"
            )
        return found

    def numbers(self, name: str, index: int, rows: range, *, like: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
        """Rows of bytes of the matrix at ``index``, of the shape ``like`` if given. Raises ModelError for others."""
        try:
            found = np.asarray(self._files[name].get_slice(name)[index : index + 1, _around(rows)])
        except KeyError:
            raise ModelError(f"tensor {name!r} is missing; download all files of the folder") from None
        except (self._error, OSError) as error:
            raise ModelError(f"tensor {name!r}: cannot be read: {error}; download the file again") from None
        found = found.reshape(found.shape[1:])[:: rows.step]
        if found.dtype != np.uint8 or (like is not None and found.shape != like):
            raise ModelError(f"tensor {name!r}: expected bytes, one for each block, got {found.dtype} {found.shape}")
        return found

    def _read_header(self, path: Path) -> None:
        try:
            with path.open("rb") as head:
                refuse_pointer(path, head.read(64))
            file = self._open(path, framework="np")
            for name in [name for name in list(file.keys()) if not name.endswith(_BUFFERS)]:
                part = file.get_slice(name)
                self._add(path, name, tuple(part.get_shape()), part.get_dtype())
                self._files[name] = file
        except (self._error, OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}; download it again") from None

    def _add(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        packed = self._mxfp4 and dtype == "U8" and name.endswith(("_blocks", "_scales"))
        if dtype not in DTYPES and not packed:
            raise ModelError(
                f"{path}: tensor {name!r}: expected one of {', '.join(DTYPES)}, got {dtype}; "
                "convert the model that it was made from"
            )
        if 0 in shape:
            raise ModelError(f"{path}: tensor {name!r}: expected weights, got the shape {shape}; download it again")
        if name in self.shapes:
            raise ModelError(f"{path}: tensor {name!r} stands in another file, too; keep the files of one model")
        if not shape:
            self._numbers.add(name)
        self.shapes[name] = shape or (1,)


def _around(part: range) -> slice:
    """All from the first to the last, as safetensors has no steps."""
    return slice(part[0], part[-1] + 1)


def package(name: str) -> Any:
    """A package of the extra ``convert``. Raises ModelError, saying how to install it, where it is missing."""
    try:
        return import_module(name)
    except ImportError:
        raise ModelError(f"converting needs the package {name}: pip install 'llamaq[convert]'") from None
