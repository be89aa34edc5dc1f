"""The cache of the Hugging Face hub, which llama.cpp shares: ``models--user--repo/snapshots/commit/file``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llamaq.errors import ModelError
from llamaq.hub.address import Address
from llamaq.hub.choice import choose, fitting, named, shards_of
from llamaq.hub.folders import MOST_ENTRIES, existing, from_environment, gguf_files, home
from llamaq.hub.found import Found
from llamaq.hub.reading import read_small

__all__ = ["HubCache", "cache_folder", "cached", "remove"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"models--([A-Za-z0-9._-]+?)--([A-Za-z0-9._-]+)")


def cache_folder() -> Path:
    """Where the hub's own library keeps its files, there or not."""
    base = from_environment("HF_HOME")
    if base is None:
        xdg = from_environment("XDG_CACHE_HOME")
        base = (xdg or home(".cache")) / "huggingface"
    return from_environment("HF_HUB_CACHE") or from_environment("HUGGINGFACE_HUB_CACHE") or base / "hub"


class HubCache:
    """Its models are called ``user/repo``, with ``:QUANT`` where there are several."""

    title = "hub cache"
    removal = ""

    def folders(self) -> list[Path]:
        return existing(cache_folder(), from_environment("LLAMA_CACHE"))

    def models(self) -> Iterator[Found]:
        for folder in self.folders():
            for name in _listed(folder):
                if repo := _REPO.fullmatch(name):
                    yield from _models(folder / name, f"{repo[1]}/{repo[2]}")


def _models(folder: Path, repo: str) -> Iterator[Found]:
    for commit, revision in _snapshots(folder).items():
        files = _snapshot_files(folder, commit)
        for file, name, aliases in named(repo, list(files)):
            if revision:
                name, aliases = f"{name}@{revision}", tuple(f"{alias}@{revision}" for alias in aliases[:3])
            yield Found(files[file], name, HubCache.title, aliases)


def cached(address: Address) -> Found | None:
    """What is there of a repository that the address means, as a whole; None where it must be downloaded."""
    for base in HubCache().folders():
        folder = base / f"models--{address.repo.replace('/', '--')}"
        for commit, revision in _snapshots(folder).items():
            wanted = address.revision
            if revision != wanted and not (len(wanted) >= 7 and commit.startswith(wanted)):
                continue
            files = _snapshot_files(folder, commit)
            fits = fitting(list(files), address.file) if address.file else [choose(list(files), address.quant)]
            if len(fits) != 1 or fits[0] is None:
                continue
            file = shards_of(fits[0], list(files))[0]
            found = Found(files[file], _name(address.repo, file, list(files)), HubCache.title)
            if found.complete:
                return found
    return None


def _name(repo: str, file: str, files: list[str]) -> str:
    return next((name for each, name, _ in named(repo, files) if each == file), f"{repo}/{file}")


def _snapshots(folder: Path) -> dict[str, str]:
    """The commits of a repository's folder that are there, and the revision that each is, empty for main."""
    revisions: dict[str, str] = {}
    for path in _refs(folder / "refs"):
        with suppress(ModelError, UnicodeDecodeError):
            commit = read_small(path).decode().strip()
            name = path.relative_to(folder / "refs").as_posix()
            if revisions.get(commit) != "main":
                revisions[commit] = name
    commits = [name for name in _listed(folder / "snapshots") if _COMMIT.fullmatch(name)]
    found = {commit: revisions.get(commit, commit) for commit in commits}
    alone = len(found) == 1
    return {commit: "" if name == "main" or (alone and name == commit) else name for commit, name in found.items()}


def _snapshot_files(folder: Path, commit: str) -> dict[str, Path]:
    """The GGUF files of a commit, by their paths in the repository."""
    base = folder / "snapshots" / commit
    return {path.relative_to(base).as_posix(): path for path in gguf_files(base, depth=3)}


def remove(model: Found) -> None:
    """Removes the files of a model from the cache, and what nothing else there needs: blobs, empty folders, the
    repository's own where it has no file left. Raises ``OSError``."""
    folder = next(parent for parent in model.path.parents if _REPO.fullmatch(parent.name))
    blobs = folder / "blobs"
    kept = {os.path.realpath(path) for path in _links(folder / "snapshots") if path not in model.paths}
    for path in model.paths:
        blob = Path(os.path.realpath(path))
        path.unlink()
        if blob.parent == Path(os.path.realpath(blobs)) and str(blob) not in kept:
            blob.unlink(missing_ok=True)
        parent = path.parent
        while parent != folder / "snapshots" and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
    if not any(True for _ in _links(folder / "snapshots")):
        shutil.rmtree(folder)


def _links(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        yield from (Path(base, name) for name in names)


def _refs(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        yield from (Path(base, name) for name in sorted(names)[:MOST_ENTRIES])


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:MOST_ENTRIES]
    except OSError:
        return []
