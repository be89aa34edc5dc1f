"""The options ``--lora``, ``--control-vector`` and their scaled twins, as llama.cpp has them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["adapters_of", "add_adapters", "add_control_vectors", "with_scales"]

_SCALED = ("--lora-scaled", "--control-vector-scaled")
_NAME = re.compile(r"[^/\\=:,]+")
_SCALE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def add_adapters(group: argparse._ActionsContainer) -> None:
    """LoRA adapters: ``adapters_of`` reads them."""
    group.add_argument("--lora", metavar="[NAME=]FILE", type=_files, action="append", dest="lora", default=[],
                       help="a LoRA adapter (GGUF), or several with commas between; may be repeated. NAME is what it "
                       "is called by (default: the file's without its ending)")  # fmt: skip
    group.add_argument(_SCALED[0], metavar="[NAME=]FILE:SCALE", type=_scaled, action="append", dest="lora",
                       help="the same with a scale; FILE SCALE means it, too")  # fmt: skip


def add_control_vectors(group: argparse._ActionsContainer) -> None:
    """Control vectors: ``adapters_of`` reads them, too."""
    group.add_argument("--control-vector", metavar="[NAME=]FILE", type=_files, action="append", dest="control_vector",
                       default=[], help="a control vector (GGUF), which is taken as an adapter is (docs/adapters.md); "
                       "several with commas between")  # fmt: skip
    group.add_argument(_SCALED[1], metavar="[NAME=]FILE:SCALE", type=_scaled, action="append", dest="control_vector",
                       help="the same with a scale; FILE SCALE means it, too")  # fmt: skip
    group.add_argument("--control-vector-layer-range", metavar=("FIRST", "LAST"), type=int, nargs=2,
                       help="add control vectors to the outputs of these layers alone, counted from 0")  # fmt: skip


def adapters_of(args: argparse.Namespace) -> list[Any]:
    """What ``LLM.load`` takes for ``adapters``."""
    from llamaq.engine.adapters import AdapterFile

    layers = getattr(args, "control_vector_layer_range", None)
    vectors = [each for several in getattr(args, "control_vector", ()) for each in several]
    if layers is not None and not vectors:
        args.parser.error("--control-vector-layer-range is for control vectors; name one by --control-vector")
    found = [AdapterFile(file, scale, name) for several in args.lora for name, file, scale in several]
    return [*found, *(AdapterFile(file, scale, name, layers and tuple(layers)) for name, file, scale in vectors)]


def with_scales(args: Sequence[str]) -> list[str]:
    """A command line where the scale behind ``--lora-scaled FILE`` and its like is part of it."""
    found: list[str] = []
    for i, word in enumerate(args):
        after = i > 1 and args[i - 2] in _SCALED and _SCALE.fullmatch(word)
        if after and not _SCALE.fullmatch(args[i - 1].rpartition(":")[2]):
            found[-1] += f":{word}"
        else:
            found.append(word)
    return found


def _files(text: str) -> list[tuple[str | None, str, float]]:
    return [(*_named(file), 1.0) for file in text.split(",") if file]


def _named(text: str) -> tuple[str | None, str]:
    """Name and path of a file; a file may have a sign of equality in its name."""
    name, sign, path = text.partition("=")
    named = sign and path and _NAME.fullmatch(name) and not os.path.exists(text)
    return (name, path) if named else (None, text)


def _scaled(text: str) -> Any:
    found = [part.rpartition(":") for part in text.split(",") if part]
    for file, _, scale in found:
        if not file or not _SCALE.fullmatch(scale):
            raise argparse.ArgumentTypeError(f"expected FILE:SCALE, got {text!r}")
    return [(*_named(file), float(scale)) for file, _, scale in found]
