"""A Hugging Face checkpoint: ``config.json``, the tokenizer's files, and tensors in one or many safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError

__all__ = ["Checkpoint", "package"]

_PIECE = 1 << 18  # weights read at a time
_INDEX = "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16", "F64")


class Checkpoint:
    """``path`` is the folder, or the one safetensors file in it that counts.

    ``config`` is config.json, ``shapes`` maps the tensors' names to their shapes. Raises ModelError for a folder
    without these files, damaged ones, and weights in a type that is no float.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise ModelError(f"{path}: no such folder or file; give a folder with config.json and safetensors files")
        self.config = self.json("config.json")
        if not self.config:
            raise ModelError(f"{self.folder}: expected a file config.json, got none; download the whole folder")
        if self.config.get("quantization_config"):
            method = self.config["quantization_config"].get("quant_method", "unknown")
            raise ModelError(
                f"{self.folder}: expected weights in floating point, got quantized ones ({method}); "
                "convert the model that they were made from"
            )
        package("ml_dtypes")  # teaches NumPy bfloat16, which safetensors then finds
        self._open = package("safetensors").safe_open
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in self._paths(path):
            self._read_header(file)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; empty where there is none."""
        file = self.folder / name
        if not file.exists():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{file}: expected JSON: {error}; download it again") from None
        if not isinstance(found, dict):
            raise ModelError(f"{file}: expected a JSON object, got {type(found).__name__}; download it again")
        return found

    def spans(self, name: str, together: int = 1) -> list[range]:
        """Rows to read at a time: multiples of ``together``, and some hundred thousand weights."""
        count, *rest = self.shapes[name]
        step = max(1, _PIECE // int(np.prod(rest, dtype=np.int64)) // together) * together
        return [range(i, min(i + step, count)) for i in range(0, count, step)]

    def read(self, name: str, rows: range) -> NDArray[np.float32]:
        """Rows of a tensor. Raises ModelError for values that are not finite."""
        found = np.asarray(self._files[name].get_slice(name)[rows.start : rows.stop]).astype(np.float32)
        if not np.isfinite(found).all():
            raise ModelError(
                f"tensor {name!r}: expected finite weights, got infinite ones or NaN in rows {rows.start} to "
                f"{rows.stop - 1}; download the file again"
            )
        return found

    def _paths(self, path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        index: Mapping[str, str] = self.json(_INDEX).get("weight_map", {})
        files = [path / name for name in sorted(set(index.values()))] or sorted(path.glob("*.safetensors"))
        if not files:
            raise ModelError(
                f"{path}: expected files *.safetensors, got none; save the model with safe_serialization=True"
            )
        absent = [file.name for file in files if not file.exists()]
        if absent:
            raise ModelError(f"{path}: {absent[0]} is missing, which {_INDEX} names; download it")
        return files

    def _read_header(self, path: Path) -> None:
        error_type = package("safetensors").SafetensorError
        try:
            file = self._open(path, framework="np")
            for name in list(file.keys()):
                part = file.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise ModelError(
                        f"{path}: tensor {name!r}: expected one of {', '.join(_DTYPES)}, got {part.get_dtype()}; "
                        "convert the model that it was made from"
                    )
                self.shapes[name] = tuple(part.get_shape())
                self._files[name] = file
        except (error_type, OSError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}; download it again") from None


def package(name: str) -> Any:
    """A package of the extra ``convert``. Raises ModelError, saying how to install it, where it is missing."""
    try:
        return import_module(name)
    except ImportError:
        raise ModelError(f"converting needs the package {name}: pip install 'llamaq[convert]'") from None
