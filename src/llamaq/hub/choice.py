"""Which file of a repository is meant: llama.cpp's rule."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

__all__ = ["choose", "fitting", "is_model", "named", "quant_of", "shards_of"]

_PREFERRED = ("Q4_K_M", "Q8_0")
_NO_MODELS = re.compile(r"mmproj|imatrix|(^|[-./])(mtp|eagle3?|dflash)-", re.IGNORECASE)
_SHARD = re.compile(r"-(?P<number>\d{5})-of-\d{5}(?=\.gguf$)", re.IGNORECASE)
_QUANT = re.compile(r"[-._]((?:UD-)?(?:I?Q[1-8]_\w+|TQ[12]_0|MXFP4\w*|NVFP4|B?F16|F32))$", re.IGNORECASE)


def is_model(file: str) -> bool:
    """Whether a file is one to load by itself: no projector, importance matrix or draft, no later part of a split."""
    shard = _SHARD.search(file)
    first = shard is None or int(shard["number"]) == 1
    return file.lower().endswith(".gguf") and first and not _NO_MODELS.search(PurePosixPath(file).name)


def choose(files: Sequence[str], quant: str = "") -> str | None:
    """The file that a repository without further word, or with a quantization, stands for; None where none fits.

    The first whose path has the quantization before a dot or a dash; without one Q4_K_M, then Q8_0, then the first.
    """
    models = [file for file in files if is_model(file)]
    for tag in [quant] if quant else _PREFERRED:
        pattern = re.compile(rf"{re.escape(tag)}[.-]", re.IGNORECASE)
        for file in models:
            if pattern.search(file):
                return file
    return models[0] if models and not quant else None


def fitting(files: Sequence[str], pattern: str) -> list[str]:
    """The files that a name, or a pattern with * and ?, means; of split ones the first parts."""
    exact = [file for file in files if pattern in (file, PurePosixPath(file).name)]
    return exact or [file for file in files if is_model(file) and fnmatch.fnmatchcase(file.lower(), pattern.lower())]


def shards_of(file: str, files: Sequence[str]) -> list[str]:
    """All parts of a file among ``files``, in order; itself where it is not split."""
    if _SHARD.search(file) is None:
        return [file]
    whole = _SHARD.sub("", file)
    return sorted(other for other in files if _SHARD.search(other) and _SHARD.sub("", other) == whole)


def quant_of(file: str) -> str:
    """The quantization that a file's name ends with; empty where it says none."""
    name = _SHARD.sub("", PurePosixPath(file).name)
    found = _QUANT.search(name[: -len(".gguf")])
    return found[1] if found else ""


def named(repo: str, files: Sequence[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """For each model of a repository (``user/repo``): its file, its own name, and further names of it."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for file in filter(is_model, files):
        quant = quant_of(file)
        own = f"{repo}:{quant}" if quant and choose(files, quant) == file else f"{repo}/{file}"
        name = PurePosixPath(file).name
        stem = _SHARD.sub("", name)[: -len(".gguf")]
        found.append((file, own, (repo, f"{repo}/{file}", f"{repo}/{stem}", name, stem)))
    return found
