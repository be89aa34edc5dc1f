"""Models that installed Python packages carry. Their lists of files are read; nothing of them is imported."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llamaq.hub.choice import is_model
from llamaq.hub.found import Found

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["Packages"]


class Packages:
    """A model's name is ``package/file`` without .gguf. The one that comes with llamaq is none of them: `Bundled` has
    it."""

    title = "Python package"
    removal = "pip uninstall the package that is before the slash"

    def folders(self) -> list[Path]:
        return []

    def models(self) -> Iterator[Found]:
        from importlib.metadata import distributions  # this import costs more than all else here

        seen = set()
        for distribution in distributions():
            package = str(distribution.metadata["Name"])
            for file in _files(distribution) if package != "llamaq" else ():
                path = Path(str(distribution.locate_file(file)))
                if path not in seen and os.path.isfile(path):
                    seen.add(path)
                    stem = path.name[: -len(".gguf")]
                    aliases = (package, stem, path.name, f"{package}/{path.name}")
                    yield Found(path, f"{package}/{stem}", self.title, aliases)


def _files(distribution: Distribution) -> list[str]:
    """The models in a distribution's list of files, which most have none of."""
    try:
        record = distribution.read_text("RECORD") or ""
        if ".gguf" not in record.lower():
            return []
        files = [row[0] for row in csv.reader(record.splitlines()) if row]
    except (OSError, ValueError, csv.Error):
        return []
    return [file for file in files if is_model(PurePosixPath(file).name)]
