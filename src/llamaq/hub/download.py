"""Models fetched from the Hugging Face hub, by its own library, into its own cache."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llamaq.errors import DownloadError
from llamaq.hub.address import Address, endpoint
from llamaq.hub.cache import cache_folder, cached
from llamaq.hub.choice import choose, fitting, is_model, shards_of
from llamaq.hub.found import Found
from llamaq.hub.resuming import begun_bytes, complete

if TYPE_CHECKING:
    from llamaq.boundary.progress import Progress

__all__ = ["errors_told", "fetch", "files_of", "hub_library", "offline", "selected"]

_MOST_FILES = 20_000  # files of a repository
_SHOWN = 12  # names in an error
_ON = ("1", "true", "yes", "on")


def fetch(address: Address, progress: Progress | None = None) -> Found:
    """Downloads what the address means, all parts of it, but those that are there and current. A connection that breaks
    is made anew and gone on with, and so is a download that was ended, by another process, too.

    ``progress`` gets bytes done and in total. With HF_HUB_OFFLINE=1 nothing is asked. Raises ``DownloadError``.
    """
    if offline():
        if found := cached(address):
            return found
        raise DownloadError(f"{address} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it")
    library = hub_library()
    sizes = files_of(address)
    names = selected(address, list(sizes))
    exact = Address(address.repo, file=names[0], revision=address.revision)
    counter = _Counter(sum(sizes[name] for name in names), progress)
    if cached(exact) is None:
        _check_disk(counter.total - begun_bytes(address.repo))
        counter.add(0)
    for name in names:
        with errors_told(address), counter.file(sizes[name]):
            complete(library, address, name, _meter(counter))
            library.hf_hub_download(
                address.repo, name, revision=address.revision or None, cache_dir=cache_folder(), endpoint=endpoint(),
                tqdm_class=_meter(counter),
            )  # fmt: skip
    found = cached(exact)
    if found is None:
        raise DownloadError(f"{address}: the hub's cache has not kept {names[0]}; llamaq list shows what it has")
    return found


def files_of(address: Address) -> dict[str, int]:
    """The GGUF files of the repository, and their sizes in bytes. Raises ``DownloadError``."""
    with errors_told(address):
        info = hub_library().HfApi(endpoint=endpoint()).model_info(
            address.repo, revision=address.revision or None, files_metadata=True
        )  # fmt: skip
    found = [(file.rfilename, file.size or 0) for file in (info.siblings or [])[:_MOST_FILES]]
    return {name: size for name, size in found if name.lower().endswith(".gguf")}


def selected(address: Address, files: list[str]) -> list[str]:
    """The files to download, in order. Raises ``DownloadError`` with what there is, where none or several fit."""
    fits = fitting(files, address.file) if address.file else list(filter(None, [choose(files, address.quant)]))
    if len(fits) == 1:
        return shards_of(fits[0], files)
    there = list(filter(is_model, files))
    if not there:
        raise DownloadError(f"{address.page} has no GGUF file; look for a repository whose name ends in -GGUF")
    shown = ", ".join(ascii(name)[1:-1] for name in (fits or there)[:_SHOWN])
    shown += f" and {len(fits or there) - _SHOWN} more" if len(fits or there) > _SHOWN else ""
    wanted = address.file or address.quant
    if fits:
        raise DownloadError(f"{address}: {wanted!r} fits several files: {shown}")
    raise DownloadError(f"{address}: no file fits {wanted!r}; there are {shown}")


def hub_library() -> Any:
    """The hub's library. It is told to send nothing about this machine, where it is not in use already."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
    except ImportError:
        raise DownloadError("downloads need the hub's library: pip install 'llamaq[hub]'") from None
    return huggingface_hub


def offline() -> bool:
    return any(os.environ.get(name, "").lower() in _ON for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _check_disk(need: int) -> None:
    folder = cache_folder()
    while not os.path.exists(folder):
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DownloadError(
            f"{folder}: the model has {need} bytes, and {free} are free; free some space, or set HF_HUB_CACHE to a "
            "folder on another disk"
        )


@contextmanager
def errors_told(address: Address) -> Iterator[None]:
    """Says what the library's errors mean, and what to do."""
    from huggingface_hub import errors

    revision = f" at the revision {address.revision}" if address.revision else ""
    try:
        yield
    except DownloadError:
        raise
    except errors.GatedRepoError:
        why = f"{address.repo} is gated: accept its terms at {address.page}, then log in (hf auth login, or HF_TOKEN)"
    except errors.RepositoryNotFoundError:
        why = _hidden(address)
    except errors.RevisionNotFoundError:
        why = f"{address.repo} has no revision {address.revision!r}; see {address.page}"
    except errors.EntryNotFoundError as error:
        unreached = isinstance(error, errors.LocalEntryNotFoundError)
        why = f"{address}: {endpoint()} cannot be reached; check the network" if unreached else _plain(address, error)
    except errors.OfflineModeIsEnabled:
        why = f"{address} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it{revision}"
    except Exception as error:  # the library, and that for HTTP below it, have many kinds
        refused = getattr(getattr(error, "response", None), "status_code", None) == 401
        why = _hidden(address) if refused else _plain(address, error)
    else:
        return
    raise DownloadError(why)


def _hidden(address: Address) -> str:
    return (
        f"there is no repository {address.repo} at {endpoint()}, or it is private: check its name, or log in "
        "(hf auth login, or HF_TOKEN)"
    )


def _plain(address: Address, error: Exception) -> str:
    text = " ".join(str(error).partition("For more information")[0].split())[:300] or type(error).__name__
    return f"{address}: the download failed: {text}; check the network, then llamaq pull {address} again"


class _Counter:
    """Bytes of all files together."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self._before = self._now = 0
        self._told = False
        self._progress = progress
        self._lock = threading.Lock()

    @contextmanager
    def file(self, size: int) -> Iterator[None]:
        yield
        self._before, self._now = self._before + size, 0
        if self._told or self._before >= self.total:  # of files that are all there, only the end is told
            self._tell()

    def add(self, count: int) -> None:
        with self._lock:
            self._now += count
        self._tell()

    def _tell(self) -> None:
        self._told = True
        if self._progress is not None:
            self._progress(min(self._before + self._now, self.total), self.total)


def _meter(counter: _Counter) -> type:
    """A class of bars that draw nothing, and tell the counter."""
    from tqdm import tqdm

    class Meter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            if options.get("initial"):
                counter.add(options["initial"])

        def update(self, n: float | None = 1) -> None:
            counter.add(int(n or 0))

    return Meter
