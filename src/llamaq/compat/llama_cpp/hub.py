"""Files of the Hugging Face hub, for ``Llama.from_pretrained``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llamaq.errors import DownloadError
from llamaq.hub.address import Address, endpoint
from llamaq.hub.cache import cache_folder, cached
from llamaq.hub.download import errors_told, hub_library, offline

__all__ = ["downloaded"]


def downloaded(
    repo_id: str, filename: str, additional_files: Sequence[str] = (), *, local_dir: Any = None, cache_dir: Any = None
) -> str:  # fmt: skip
    """The path of the one file that a pattern fits, once it and the additional ones are here; with HF_HUB_OFFLINE=1 it
    must be here already. Raises ``ValueError`` where none or several fit, ``DownloadError`` where the hub does not give
    them, ``ImportError`` where its library is missing."""
    address = Address(repo_id, file=filename)
    if offline() and (found := cached(address)) is not None:
        return str(found.path)
    try:
        library = hub_library()
    except DownloadError:
        raise ImportError(
            "Llama.from_pretrained needs the package huggingface_hub: pip install huggingface_hub"
        ) from None
    with errors_told(address):
        names = [file.rfilename for file in library.HfApi(endpoint=endpoint()).model_info(repo_id).siblings or []]
    wanted = [_one(repo_id, names, pattern) for pattern in (filename, *additional_files)]
    with errors_told(address):
        where = {"local_dir": local_dir, "cache_dir": cache_dir or cache_folder(), "endpoint": endpoint()}
        paths = [library.hf_hub_download(repo_id, name, **where) for name in wanted]
    return str(Path(paths[0]))


def _one(repo_id: str, names: Sequence[str], pattern: str) -> str:
    found = [name for name in names if fnmatch(name, pattern)]
    if len(found) != 1:
        what = "Multiple files" if found else "No file"
        raise ValueError(f"{what} found in {repo_id} that match {pattern}; it has {', '.join(found or names)}")
    return found[0]
