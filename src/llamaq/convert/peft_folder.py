"""What PEFT saves of a LoRA adapter: ``adapter_config.json``, and factors in a safetensors file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.checkpoint import DTYPES, package
from llamaq.convert.files import refuse_pointer
from llamaq.convert.section import Section, read_json, shown
from llamaq.convert.weight_files import ADAPTER, ADAPTER_CONFIG
from llamaq.errors import ModelError

__all__ = ["PeftFolder"]

_MERGE = "merge it into its model first (peft: merge_and_unload), and convert that"
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<which>[AB])(\.default)?(?P<end>\.weight)?")
_WRONG: dict[str, str] = {
    "use_dora": "DoRA, whose magnitudes",
    "modules_to_save": "whole modules beside the factors, which",
    "trainable_token_indices": "embeddings of tokens beside the factors, which",
    "lora_bias": "biases beside the factors, which",
    "layer_replication": "layers that are repeated, which",
    "target_parameters": "factors of parameters that are no modules, which",
    "alora_invocation_tokens": "an adapter that begins at tokens of its own (aLoRA), which",
    "use_qalora": "QALoRA, whose groups",
    "use_bdlora": "factors in blocks (BD-LoRA), which",
    "arrow_config": "Arrow's choice among adapters, which",
    "monteclora_config": "MonteCLoRA, whose samples",
}
"""Settings of PEFT that the layout of factors alone cannot say, and what they are."""
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of what training started from, where the model's own weights were changed for it."""
_PARTS = {
    "lora_magnitude_vector": _WRONG["use_dora"],
    "modules_to_save": _WRONG["modules_to_save"],
    "trainable_tokens": _WRONG["trainable_token_indices"],
    ".bias": _WRONG["lora_bias"],
}
_LONGEST_PATTERN = 10_000  # characters
_SECONDS = 2.0  # seconds that a match may take: real patterns take microseconds


class PeftFolder:
    """``path`` is the folder, ``config`` its adapter_config.json. ``shapes`` are those of the weights that it adds to,
    (rows, columns), by their names in the model. ``alpha`` divided by the rank is the scale of all `factors`. Raises
    ModelError for damaged files, and for what is more than factors, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path if path.is_dir() else path.parent
        self.config = read_json(self.path / ADAPTER_CONFIG)
        if not self.config:
            raise ModelError(f"{self.path}: expected a file {ADAPTER_CONFIG}, got none; download the whole folder")
        _check_settings(self.config)
        package("ml_dtypes")  # teaches NumPy bfloat16, which safetensors then finds
        self._error: type[Exception] = package("safetensors").SafetensorError
        self._file = self._opened(self.path / ADAPTER)
        self._names = self._pairs()
        self.shapes = {name: self._shape(name) for name in self._names}
        self._alphas = {name: _alpha(self.config, name, self.rank(name)) for name in self.shapes}
        self.alpha = next(iter(self._alphas.values()))

    def rank(self, name: str) -> int:
        """Rows of A."""
        return int(self._file.get_slice(self._names[name]["A"]).get_shape()[0])

    def factors(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A (rank, columns) and B (rows, rank). Raises ModelError for values that are not finite."""
        a, b = (self._read(self._names[name][which]) for which in "AB")
        a, b = (b.T, a.T) if self._is_table(name) else (a, b)
        factor = self._alphas[name] / self.alpha
        return a, b if factor == 1 else (b * factor).astype(np.float32)

    def _is_table(self, name: str) -> bool:
        """Whether a weight is a table of embeddings: A is of its rows, B of its columns there."""
        return ".lora_embedding_" in self._names[name]["A"]

    def _opened(self, path: Path) -> Any:
        if not path.exists():
            pickled = path.with_suffix(".bin").exists()
            advice = "save it with safe_serialization=True" if pickled else "download the whole folder"
            raise ModelError(f"{path}: expected that file, got {'adapter_model.bin' if pickled else 'none'}; {advice}")
        try:
            with path.open("rb") as head:
                refuse_pointer(path, head.read(64))
            return package("safetensors").safe_open(path, framework="np")
        except (self._error, OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}; download it again") from None

    def _pairs(self) -> dict[str, dict[str, str]]:
        """The two tensors of each weight, by the weight's name."""
        found: dict[str, dict[str, str]] = {}
        for name in self._file.keys():  # noqa: SIM118 (it is no mapping)
            if name.endswith(".base_layer.weight"):  # the model's own, which PEFT saves beside factors of embeddings
                continue
            match = _FACTOR.fullmatch(name)
            if match is None or bool(match["embedding"]) == bool(match["end"]):
                what = next(
                    (what for part, what in _PARTS.items() if part in name), "a tensor that is no factor, which"
                )
                raise ModelError(f"tensor {name!r}: {what} a LoRA file of GGUF cannot hold; {_MERGE}")
            module = match["module"].removeprefix("base_model.model.")
            found.setdefault(f"{module}.weight", {})[match["which"]] = name
        for weight, pair in found.items():
            if len(pair) == 1:
                raise ModelError(f"tensor {weight!r}: expected factors A and B, got {next(iter(pair))} alone; download "
                                 "the file again")  # fmt: skip
        if not found:
            raise ModelError(f"{self.path / ADAPTER}: expected factors, got none; the adapter would change nothing")
        return found

    def _shape(self, weight: str) -> tuple[int, int]:
        shapes = []
        for which in "AB":
            part = self._file.get_slice(self._names[weight][which])
            if part.get_dtype() not in DTYPES:
                raise ModelError(f"tensor {self._names[weight][which]!r}: expected one of {', '.join(DTYPES)}, got "
                                 f"{part.get_dtype()}; save the adapter in floating point")  # fmt: skip
            shapes.append(tuple(part.get_shape()))
        a, b = shapes
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
            raise ModelError(f"tensor {weight!r}: expected factors (rank, columns) and (rows, rank), got {a} and {b}; "
                             "llamaq has adapters of matrices alone")  # fmt: skip
        return (a[1], b[0]) if self._is_table(weight) else (b[0], a[1])

    def _read(self, name: str) -> NDArray[np.float32]:
        try:
            found = np.asarray(self._file.get_tensor(name))
        except (self._error, OSError) as error:
            raise ModelError(f"tensor {name!r}: cannot be read: {error}; download the file again") from None
        with np.errstate(over="ignore"):  # what binary32 cannot hold becomes infinite
            found = found.astype(np.float32)
        if not np.isfinite(found).all():
            raise ModelError(
                f"tensor {name!r}: expected finite weights, got infinite ones or NaN; download the file again"
            )
        return found


def _check_settings(config: Section) -> None:
    if (kind := config.text("peft_type", "LORA")) != "LORA":
        raise ModelError(f"{ADAPTER_CONFIG}: peft_type: expected 'LORA', got {shown(kind)}; {_MERGE}")
    for key, what in _WRONG.items():
        if config.values.get(key):
            raise ModelError(f"{ADAPTER_CONFIG}: {key}: {what} a LoRA file of GGUF cannot hold; {_MERGE}")
    begun = config.values.get("init_lora_weights")
    if isinstance(begun, str) and begun.startswith(_OTHER_BASE):
        raise ModelError(f"{ADAPTER_CONFIG}: init_lora_weights: {shown(begun)} changes the model's own weights, too; "
                         "save the adapter with path_initial_model_for_weight_conversion")  # fmt: skip


def _alpha(config: Section, weight: str, rank: int) -> float:
    """What divided by the rank is the scale of a weight's factors."""
    alpha = config.number("lora_alpha")
    patterns = config.section("alpha_pattern")
    key = next((key for key in patterns.values if _matches(key, weight.removesuffix(".weight"))), None)
    if key is not None:
        alpha = patterns.number(key)
    return alpha * math.sqrt(rank) if config.flag("use_rslora") else alpha


def _matches(pattern: str, module: str) -> bool:
    """Whether a key of ``alpha_pattern``, a regular expression for the end of names, means a module."""
    import regex

    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise ValueError(f"{len(pattern)} characters")
        return regex.match(rf"(.*\.)?({pattern})$", module, timeout=_SECONDS) is not None
    except (regex.error, ValueError, RecursionError, TimeoutError, OverflowError, MemoryError) as error:
        raise ModelError(f"{ADAPTER_CONFIG}: alpha_pattern: {shown(pattern)} cannot be understood: {error}") from None
