"""llamaq's own folder of models: $LLAMAQ_MODELS, or in the user's data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llamaq.hub.choice import is_model
from llamaq.hub.folders import existing, from_environment, gguf_files, user_data
from llamaq.hub.found import Found

__all__ = ["OwnFolder", "own_folder"]


def own_folder() -> Path:
    """Where it is, there or not."""
    return from_environment("LLAMAQ_MODELS") or user_data() / "llamaq" / "models"


class OwnFolder:
    """GGUF files in it, and in folders there; a model's name is its path from there without .gguf."""

    title = "llamaq's folder"
    removal = ""

    def folders(self) -> list[Path]:
        return existing(own_folder())

    def models(self) -> Iterator[Found]:
        for folder in self.folders():
            for path in gguf_files(folder, depth=3):
                if is_model(path.name):
                    file = path.relative_to(folder).as_posix()
                    name = file[: -len(".gguf")]
                    yield Found(path, name, self.title, (file, path.name, path.name[: -len(".gguf")]))
