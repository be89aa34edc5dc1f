"""Which files of a folder hold the model's weights."""

from __future__ import annotations

import logging
from pathlib import Path

from llamaq.convert.section import Section
from llamaq.errors import ModelError

__all__ = ["INDEX", "refuse_adapter", "weight_files"]

logger = logging.getLogger("llamaq")

INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"
_MERGE = "merge it into its model first (peft: merge_and_unload), and convert that"


def refuse_adapter(path: Path) -> None:
    """Raises ModelError where ``path``, a folder or a file, is an adapter alone."""
    alone = (path / "adapter_config.json").exists() and not (path / "config.json").exists()
    if alone or path.name == _ADAPTER:
        raise ModelError(f"{path}: expected a model, got an adapter (LoRA) without one; {_MERGE}")


def weight_files(path: Path, index: Section) -> list[Path]:
    """The safetensors files: ``path`` itself, those that ``index`` (weight_map) names, or the folder's own.

    Raises ModelError where files are missing, or are of another layout.
    """
    if path.is_file():
        return [path]
    present = sorted(file.name for file in path.iterdir() if file.suffix == ".safetensors" and file.exists())
    if _ADAPTER in present and len(present) > 1:
        logger.warning("%s: the adapter beside the model is left out; to have it, %s", path / _ADAPTER, _MERGE)
    if index:
        named = sorted({index.text(tensor) for tensor in index.values})
        absent = next((name for name in named if name not in present), None)
        if absent is not None:
            raise ModelError(f"{path}: {absent[:80]} is missing, which {INDEX} names; download it")
        return [path / name for name in named]
    others = [name for name in present if name == _ADAPTER or name.startswith("consolidated")]
    own = [name for name in present if name not in others]
    if not own:
        got = f"{others[0]} alone" if others else "none"
        advice = _MERGE if _ADAPTER in others else "save the model with safe_serialization=True"
        if others and _ADAPTER not in others:
            advice = "that is the authors' own layout: download the files model*.safetensors, too"
        raise ModelError(f"{path}: expected files model*.safetensors, got {got}; {advice}")
    usual = [name for name in own if name.startswith("model")]
    return [path / name for name in usual or own]
