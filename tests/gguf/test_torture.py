"""Damaged files: the collection of known defects, and truncation at every byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gguf_files import EVERY_TYPE, Tensor, build, opened
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFFile
from llamaq.gguf.parse import parse

CONTAINER = ("ok_", "hdr_", "trunc_", "kv_", "ti_")
"""Defects that reading the file must find; the others are for those who use what it says."""


def _outcome(path: Path) -> str:
    try:
        GGUFFile.open(path)
    except GGUFError as error:
        return "reject" if str(error).startswith(f"{path}: byte ") else f"reject without the place: {error}"
    return "accept"


def test_every_known_defect(shared: Callable[[str], Path]) -> None:
    folder = shared("gguf-torture")
    wrong = {}
    for name, case in json.loads((folder / "manifest.json").read_text()).items():
        container = name.startswith(CONTAINER) and name != "ti_type_i8_weight"  # the file is sound, the model is not
        expected = case["expect"] if container else "accept"
        got = _outcome(folder / f"{name}.gguf")
        if got != expected and not (expected in ("either", "reject-or-default") and got in ("accept", "reject")):
            wrong[name] = f"{got}, but expected {expected}"
    assert not wrong


TENSORS: list[Tensor] = [("blk.0.weight", [3, 2, 2], 0, bytes(48)), ("q", [32, 1], 8, bytes(34))]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_truncation_at_every_byte(tmp_path: Path, order: str, version: int) -> None:
    whole = build(EVERY_TYPE, TENSORS, order=order, version=version)
    assert list(opened(tmp_path, whole).tensors) == ["blk.0.weight", "q"]
    for size in range(len(whole)):
        with pytest.raises(GGUFError, match=r"made.gguf: byte"):
            parse(memoryview(whole)[:size], "made.gguf")
    for size in (0, 1, 4, 7, 23, len(whole) // 2, len(whole) - 1):
        with pytest.raises(GGUFError, match=r"made.gguf: byte"):
            opened(tmp_path, whole[:size])
