"""Which files of a folder hold the model's weights."""

from __future__ import annotations

import logging
from pathlib import Path

from llamaq.convert.section import Section
from llamaq.errors import ModelError

__all__ = ["ADAPTER", "ADAPTER_CONFIG", "INDEX", "is_peft", "refuse_adapter", "weight_files"]

logger = logging.getLogger("llamaq")

INDEX = "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_MERGE = "convert it by itself (convert_adapter), or merge it into its model first (peft: merge_and_unload)"


def is_peft(path: Path) -> bool:
    """Whether a folder has an adapter of PEFT and no model beside it, or a file is an adapter's."""
    if not path.is_dir():
        return path.name == ADAPTER
    models = [file for file in path.glob("*.safetensors") if file.name != ADAPTER]
    return (path / ADAPTER_CONFIG).exists() and not models


def refuse_adapter(path: Path) -> None:
    """Raises ModelError where ``path``, a folder or a file, is an adapter alone."""
    alone = (path / ADAPTER_CONFIG).exists() and not (path / "config.json").exists()
    if alone or path.name == ADAPTER:
        raise ModelError(f"{path}: expected a model, got an adapter (LoRA) without one; {_MERGE}")


def weight_files(path: Path, index: Section) -> list[Path]:
    """The safetensors files: ``path`` itself, those that ``index`` (weight_map) names, or the folder's own.

    Raises ModelError where files are missing, or are of another layout.
    """
    if path.is_file():
        return [path]
    present = sorted(file.name for file in path.iterdir() if file.suffix == ".safetensors" and file.exists())
    if ADAPTER in present and len(present) > 1:
        logger.warning("%s: the adapter beside the model is left out; to have it, %s", path / ADAPTER, _MERGE)
    if index:
        named = sorted({index.text(tensor) for tensor in index.values})
        absent = next((name for name in named if name not in present), None)
        if absent is not None:
            raise ModelError(f"{path}: {absent[:80]} is missing, which {INDEX} names; download it")
        return [path / name for name in named]
    others = [name for name in present if name == ADAPTER or name.startswith("consolidated")]
    own = [name for name in present if name not in others]
    if not own:
        got = f"{others[0]} alone" if others else "none"
        advice = _MERGE if ADAPTER in others else "save the model with safe_serialization=True"
        if others and ADAPTER not in others:
            advice = "that is the authors' own layout: download the files model*.safetensors, too"
        raise ModelError(f"{path}: expected files model*.safetensors, got {got}; {advice}")
    usual = [name for name in own if name.startswith("model")]
    return [path / name for name in usual or own]
