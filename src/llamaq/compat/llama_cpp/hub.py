"""Files of the Hugging Face hub, for ``Llama.from_pretrained``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

__all__ = ["downloaded"]


def downloaded(
    repo_id: str, filename: str, additional_files: Sequence[str] = (), *, local_dir: Any = None, cache_dir: Any = None
) -> str:  # fmt: skip
    """The path of the one file that a pattern fits, once it and the additional ones are here. Raises ``ValueError``
    where none or several fit."""
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise ImportError(
            "Llama.from_pretrained needs the package huggingface_hub: pip install huggingface_hub"
        ) from None
    names = HfApi().list_repo_files(repo_id)
    wanted = [_one(repo_id, names, pattern) for pattern in (filename, *additional_files)]
    paths = [hf_hub_download(repo_id, name, local_dir=local_dir, cache_dir=cache_dir) for name in wanted]
    return str(Path(paths[0]))


def _one(repo_id: str, names: Sequence[str], pattern: str) -> str:
    found = [name for name in names if fnmatch(name, pattern)]
    if len(found) != 1:
        what = "Multiple files" if found else "No file"
        raise ValueError(f"{what} found in {repo_id} that match {pattern}; it has {', '.join(found or names)}")
    return found[0]
