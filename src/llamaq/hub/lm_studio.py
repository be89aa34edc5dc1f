"""Models of LM Studio: ``publisher/model/file.gguf`` below its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llamaq.errors import LlamaqError
from llamaq.hub.choice import named
from llamaq.hub.folders import existing, gguf_files, home
from llamaq.hub.found import Found
from llamaq.hub.reading import read_json, read_small

__all__ = ["LMStudio"]


class LMStudio:
    """Its models are called ``publisher/model``, with ``:QUANT`` where there are several."""

    title = "LM Studio"
    removal = "delete it in LM Studio (My Models)"

    def folders(self) -> list[Path]:
        homes = [home(".lmstudio"), home(".cache", "lm-studio")]
        with suppress(LlamaqError, ValueError):  # its home may have been moved
            homes.insert(0, Path(read_small(home(".lmstudio-home-pointer")).decode().strip()))
        chosen = [_chosen(folder / "settings.json") for folder in homes]
        return existing(*chosen, *(folder / "models" for folder in homes))

    def models(self) -> Iterator[Found]:
        for folder in self.folders():
            repos: dict[str, dict[str, Path]] = {}
            for path in gguf_files(folder, depth=4):
                publisher, *rest = path.relative_to(folder).parts
                if len(rest) >= 2:
                    repos.setdefault(f"{publisher}/{rest[0]}", {})["/".join(rest[1:])] = path
            for repo, files in repos.items():
                for file, name, aliases in named(repo, list(files)):
                    yield Found(files[file], name, self.title, aliases)


def _chosen(settings: Path) -> Path | None:
    """The folder that the user chose for models; None where it is LM Studio's own."""
    try:
        found = read_json(settings)
    except LlamaqError:
        return None
    folder = found.get("downloadsFolder")
    return Path(folder) if isinstance(folder, str) and folder and "\0" not in folder else None
