"""Files of the hub that are gone on with where a download was ended. The hub's library would begin them anew: here the
beginning stays in its cache, and what the library then finds there is a whole file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from llamaq.errors import DownloadError
from llamaq.hub.address import Address, endpoint
from llamaq.hub.cache import cache_folder

__all__ = ["begun_bytes", "complete"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 22  # bytes


def begun_bytes(repo: str) -> int:
    """How much is there of files that are not whole yet."""
    return sum(path.stat().st_size for path in _blobs(repo).glob("*.incomplete"))


def complete(library: Any, address: Address, name: str, meter: type) -> None:
    """Puts a file of the repository into the library's cache: the rest of it where it was begun. It is left to the
    library where the hub does not tell its SHA-256, by which the whole is checked, or wants another protocol for its
    size. Raises ``DownloadError``, and the library's own errors."""
    from huggingface_hub import utils
    from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE

    tools: Any = utils  # it tells no type checker all that it has
    url = library.hf_hub_url(address.repo, name, revision=address.revision or None, endpoint=endpoint())
    about = library.get_hf_file_metadata(url, endpoint=endpoint())
    tag, size = about.etag or "", about.size
    blob = _blobs(address.repo) / tag
    if not (size and _SHA256.fullmatch(tag)) or size > MAX_HTTP_DOWNLOAD_SIZE or blob.exists():
        return
    lock = cache_folder() / ".locks" / blob.parent.parent.name / f"{tag}.lock"  # the library's own
    for folder in (lock.parent, blob.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with tools.WeakFileLock(lock):
        if not blob.exists():
            part = blob.with_name(f"{tag}.incomplete")
            _receive(url, part, size, tools.build_hf_headers(), meter)
            if _digest(part) != tag:
                part.unlink()
                raise DownloadError(f"{address}: what came of {name} has another SHA-256 than the hub says; try again")
            part.rename(blob)


def _receive(url: str, part: Path, size: int, headers: dict[str, str], meter: type) -> None:
    from huggingface_hub.file_download import http_get

    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    try:
        with open(part, "ab") as file:
            http_get(url, file, resume_size=have, headers=headers, expected_size=size, tqdm_class=meter)
    finally:
        if part.stat().st_size > size:  # it is of no use
            part.unlink()


def _blobs(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}" / "blobs"


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
