"""Models removed from where llamaq may: its own folder, and the hub's cache."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from llamaq.boundary.files import reason
from llamaq.errors import ModelError
from llamaq.hub import cache
from llamaq.hub.found import Found
from llamaq.hub.own import OwnFolder, own_folder
from llamaq.hub.resolve import SOURCES

__all__ = ["check_removal", "remove"]


def check_removal(model: Found) -> None:
    """Raises ``ModelError``, with the way to remove it, for a model that is not llamaq's to remove."""
    if model.is_path:
        raise ModelError(f"{model.path} is a file of yours: remove it as any other")
    source = next(source for source in SOURCES if source.title == model.source)
    if source.removal:
        how = source.removal.replace("NAME", model.name)
        raise ModelError(f"{model.name} is not llamaq's to remove ({model.source}): {how}")
    roots = [os.path.realpath(folder) for folder in source.folders()]
    if not any(Path(os.path.realpath(model.path.parent)).is_relative_to(root) for root in roots):
        raise ModelError(f"{model.path} lies in another folder, to which a link leads: remove it there")


def remove(model: Found) -> None:
    """Removes its files. Raises ``ModelError``."""
    check_removal(model)
    try:
        if model.source == OwnFolder.title:
            for path in model.paths:
                path.unlink()
            _remove_empty(model.path.parent)
        else:
            cache.remove(model)
    except OSError as error:
        raise ModelError(
            f"{error.filename or model.path}: cannot be removed: {reason(error, 'see its rights')}"
        ) from None


def _remove_empty(folder: Path) -> None:
    """Takes away the folders, within llamaq's own, in which nothing is left."""
    with suppress(OSError):
        while folder != own_folder():
            folder.rmdir()
            folder = folder.parent
