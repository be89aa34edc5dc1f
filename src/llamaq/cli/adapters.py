"""The options ``--lora`` and ``--lora-scaled``, as llama.cpp has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["adapters_of", "add_adapters", "with_scales"]

_SCALED = "--lora-scaled"
_SCALE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def add_adapters(group: argparse._ActionsContainer) -> None:
    """Both options: ``adapters_of`` reads them."""
    group.add_argument("--lora", metavar="FILE", type=_files, action="append", dest="lora", default=[],
                       help="a LoRA adapter (GGUF), or several with commas between; may be repeated")  # fmt: skip
    group.add_argument(_SCALED, metavar="FILE:SCALE", type=_scaled, action="append", dest="lora",
                       help="the same with a scale; FILE SCALE means it, too")  # fmt: skip


def adapters_of(args: argparse.Namespace) -> dict[Any, float]:
    """Files of adapters and their scales."""
    return {file: scale for each in args.lora for file, scale in each}


def with_scales(args: Sequence[str]) -> list[str]:
    """A command line where the scale behind ``--lora-scaled FILE`` is part of it."""
    found: list[str] = []
    for i, word in enumerate(args):
        after = i > 1 and args[i - 2] == _SCALED and _SCALE.fullmatch(word)
        if after and not _SCALE.fullmatch(args[i - 1].rpartition(":")[2]):
            found[-1] += f":{word}"
        else:
            found.append(word)
    return found


def _files(text: str) -> list[tuple[str, float]]:
    return [(file, 1.0) for file in text.split(",") if file]


def _scaled(text: str) -> Any:
    found = [part.rpartition(":") for part in text.split(",") if part]
    for file, _, scale in found:
        if not file or not _SCALE.fullmatch(scale):
            raise argparse.ArgumentTypeError(f"expected FILE:SCALE, got {text!r}")
    return [(file, float(scale)) for file, _, scale in found]
